//! The disk of one member of three takes no more: that member says so and ends, the others go on, and it comes back with
//! everything when there is room.

mod cluster;

use std::time::Duration;

use cluster::{
    connection::single_threaded_runtime,
    several::{Several, get, put},
};

/// Room for the first segment of the log, which may grow while the next is being prepared, and not for the next.
const FILE_SIZE_MAX: u64 = 8 << 20;

/// Values that take more than that.
const VALUES_MAX: usize = 100;
const VALUE_BYTES: usize = 100_000;

/// Which member has the full disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Full {
    Leader,
    Follower,
}

#[test]
fn a_follower_whose_disk_is_full_ends_and_harms_nobody() {
    one_disk_is_full(Full::Follower);
}

#[test]
fn a_leader_whose_disk_is_full_ends_and_another_leads() {
    one_disk_is_full(Full::Leader);
}

fn one_disk_is_full(which: Full) {
    let mut several = Several::of(3, &[]);
    several.members[0].limit_file_size(Some(FILE_SIZE_MAX));
    several.start();
    single_threaded_runtime().block_on(async {
        lead(&several, which == Full::Leader).await;
        let value = "v".repeat(VALUE_BYTES);
        let healthy = [1, 2];
        let mut acknowledged = Vec::new();
        for number in 0..VALUES_MAX {
            if !several.members[0].is_running() {
                break;
            }
            let key = format!("k{number}");
            // A call that the ending leader had taken may be without an answer; nothing is claimed of it.
            if put(&several.members[1 + number % 2], &key, &value)
                .await
                .is_ok()
            {
                acknowledged.push(key);
            }
        }
        let status = several.members[0].wait_for_exit();
        assert_eq!(status.code(), Some(1), "{}", several.members[0].stderr());
        let said = several.members[0].stderr();
        let complaint = said.lines().find(|line| line.starts_with("metastore: "));
        let complaint = complaint.unwrap_or_else(|| panic!("no complaint in {said}"));
        assert!(complaint.contains("ulimit -f"), "{complaint}");
        assert!(complaint.contains("/wal"), "{complaint}");

        several
            .write_through_any_of(&healthy, "after", Duration::from_secs(5))
            .await;
        acknowledged.push("after".to_owned());
        // The first segment takes this many, whatever comes then.
        assert!(acknowledged.len() >= 5, "{acknowledged:?}");

        several.members[0].limit_file_size(None);
        several.members[0].start();
        for key in &acknowledged {
            for member in &several.members {
                let found = get(member, key, false).await;
                assert!(matches!(found, Ok(Some(_))), "{key}: {found:?}");
            }
        }
    });
}

/// Waits until the first member leads, or another, as asked for.
async fn lead(several: &Several, first: bool) {
    let leader = several.leader().await;
    if (leader == 0) == first {
        return;
    }
    several.move_leader(leader, usize::from(!first)).await;
}
