//! What `--help` and `--version` print.

use std::fmt::Write;

use super::flag_table::{SECTIONS, Support};

/// The flag list.
pub fn usage() -> String {
    let mut text = String::from(INTRODUCTION);
    for (section, flags) in SECTIONS {
        write!(text, "\n{section}:\n").expect("a String takes every write");
        for flag in *flags {
            let default = if flag.default.is_empty() {
                String::new()
            } else {
                format!(" '{}'", flag.default)
            };
            let note = match flag.support {
                Support::Supported => "",
                Support::Inert => " (accepted without effect)",
                Support::Refused(_) => " (not supported yet: refused unless left at its default)",
            };
            write!(
                text,
                "  --{}{default}\n        {}{note}\n",
                flag.name, flag.help
            )
            .expect("a String takes every write");
        }
    }
    text
}

/// The four lines etcd prints, with the version of the API that is served, since scripts read them by their beginnings
/// and places; then this program's own.
pub fn version_text() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: {}\nGo Version: none\nGo OS/Arch: {}/{}\nmetastore Version: {}\nRust Version: {}\n",
        option_env!("METASTORE_GIT_SHA").unwrap_or("unknown"),
        std::env::consts::OS,
        architecture(std::env::consts::ARCH),
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_RUST_VERSION"),
    )
}

/// The name Go's tools use for the architecture.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// The version of etcd whose API this server speaks.
pub const ETCD_VERSION: &str = "3.7.0";

const INTRODUCTION: &str = "\
Usage:
  metastore [flags]            start a member
  metastore --version          print the version
  metastore -h | --help        print this list

Each flag can be set by an environment variable instead: METASTORE_DATA_DIR or ETCD_DATA_DIR for --data-dir.
METASTORE_ wins over ETCD_; a variable for a flag that is also on the command line is an error.
With --config-file the YAML file holds alone.
";
