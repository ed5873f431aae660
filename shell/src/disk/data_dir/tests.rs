use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::disk::files::faulty::FaultyFiles;

fn identity(member_id: u64, name: &str) -> MemberIdentity {
    MemberIdentity {
        cluster_id: 0xfeed_0000_0000_0001,
        member_id,
        name: name.to_owned(),
    }
}

/// The refusal of `root`, which must be one line naming it; nothing in the directory may change.
fn refusal(root: &Path) -> DataDirError {
    let before = names_below(root);
    let error = DataDir::open(root).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(root.to_str().unwrap()) && !text.contains('\n'),
        "{text}"
    );
    assert_eq!(names_below(root), before);
    error
}

fn names_below(path: &Path) -> Vec<PathBuf> {
    let mut names = vec![path.to_owned()];
    if let Ok(entries) = fs::read_dir(path) {
        let mut below: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        below.sort();
        names.extend(below.iter().flat_map(|path| names_below(path)));
    }
    names
}

#[test]
fn a_new_directory_is_private_and_has_its_folders() {
    let temp = TempDir::new().unwrap();
    let root = temp.path().join("a/m1.data");
    let dir = DataDir::open(&root).unwrap();
    assert_eq!(
        fs::metadata(&root).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert!(dir.wal_dir().is_dir() && dir.snap_dir().is_dir());
    assert_eq!(dir.identity(), None);
}

#[test]
fn a_second_opening_fails_until_the_first_is_dropped() {
    let temp = TempDir::new().unwrap();
    let first = DataDir::open(temp.path()).unwrap();
    assert!(matches!(refusal(temp.path()), DataDirError::Locked { .. }));
    drop(first);
    assert!(DataDir::open(temp.path()).is_ok());
}

#[test]
fn a_directory_of_another_member_is_refused_with_both_names() {
    let temp = TempDir::new().unwrap();
    let mut dir = DataDir::open(temp.path()).unwrap();
    dir.claim(&RealFiles, identity(0xa1, "alpha")).unwrap();
    drop(dir);
    let dir = DataDir::open(temp.path()).unwrap();
    assert_eq!(dir.identity(), Some(&identity(0xa1, "alpha")));
    assert!(dir.expect(&identity(0xa1, "renamed")).is_ok());
    let text = dir.expect(&identity(0xb2, "beta")).unwrap_err().to_string();
    for part in [
        "\"alpha\" (a1)",
        "\"beta\" (b2)",
        "feed000000000001",
        temp.path().to_str().unwrap(),
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn whose_the_data_are_is_durable_after_every_name_on_the_way_to_them() {
    let temp = TempDir::new().unwrap();
    let (root, log) = (temp.path().join("a/m1.data"), temp.path().join("b/m1.wal"));
    let files = FaultyFiles::default();
    let mut dir = DataDir::open(&root).unwrap();
    dir.keep_log_in(&log).unwrap();
    dir.claim(&files, identity(0xa1, "alpha")).unwrap();
    let synced = files.synced_dirs();
    let at = |path: &Path| synced.iter().position(|it| it == path);
    let identity = at(&root).expect("the identity is durable");
    for above in ["a", "b"] {
        let above = temp.path().join(above);
        assert!(at(&above).is_some_and(|it| it < identity), "{synced:?}");
    }
    assert!(
        at(temp.path()).is_some_and(|it| it < identity),
        "{synced:?}"
    );
}

#[test]
fn a_log_elsewhere_is_one_process_s_alone_even_in_a_copy_of_the_data_directory() {
    let temp = TempDir::new().unwrap();
    let log = temp.path().join("log");
    let mut first = DataDir::open(&temp.path().join("first")).unwrap();
    first.keep_log_in(&log).unwrap();
    assert_eq!(first.wal_dir(), log);
    let mut copy = DataDir::open(&temp.path().join("copy")).unwrap();
    let refused = copy.keep_log_in(&log).unwrap_err();
    assert!(matches!(refused, DataDirError::LogLocked { .. }));
    let text = refused.to_string();
    assert!(
        text.contains(log.to_str().unwrap()) && text.contains("--wal-dir"),
        "{text}"
    );
    drop(first);
    copy.keep_log_in(&log).unwrap();
    // The log may lie in the data directory itself.
    let root = temp.path().join("second");
    let mut second = DataDir::open(&root).unwrap();
    second.keep_log_in(&root).unwrap();
}

#[test]
fn the_data_of_etcd_is_recognised() {
    let temp = TempDir::new().unwrap();
    fs::create_dir_all(temp.path().join("member/snap")).unwrap();
    fs::write(temp.path().join("member/snap/db"), b"bolt").unwrap();
    assert!(matches!(refusal(temp.path()), DataDirError::OfEtcd { .. }));
}

#[test]
fn what_this_program_did_not_make_or_cannot_read_is_refused() {
    let temp = TempDir::new().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(refusal(&file), DataDirError::NotADirectory { .. }));

    let foreign = temp.path().join("foreign");
    fs::create_dir_all(foreign.join("member")).unwrap();
    assert!(matches!(refusal(&foreign), DataDirError::Foreign { .. }));

    let newer = temp.path().join("newer");
    drop(DataDir::open(&newer).unwrap());
    fs::write(newer.join("version"), b"2\n").unwrap();
    assert!(matches!(refusal(&newer), DataDirError::OtherVersion { found, .. } if found == "2"));

    let damaged = temp.path().join("damaged");
    drop(DataDir::open(&damaged).unwrap());
    fs::write(damaged.join("identity"), b"{\"cluster_id\": 1").unwrap();
    assert!(matches!(
        refusal(&damaged),
        DataDirError::IdentityDamaged { .. }
    ));
}

#[test]
fn missing_permission_names_the_nearest_path_that_exists() {
    let temp = TempDir::new().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser is never refused, so the system's answer is played here.
    let error = failed(
        "create",
        &temp.path().join("x/y"),
        io::ErrorKind::PermissionDenied.into(),
    );
    let DataDirError::NotPermitted { path, mode, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((path.as_path(), *mode), (temp.path(), 0o555));
    let error = failed(
        "create",
        temp.path(),
        io::ErrorKind::ReadOnlyFilesystem.into(),
    );
    assert!(error.to_string().contains("read-only"));
}
