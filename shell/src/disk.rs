//! Everything that touches the disk: the data directory, the files of the log, the thread that writes it, checkpoints.
//!
//! *Invariant:* what the bytes of the log mean is decided in `metastore_core::wal`; here are only files, their order
//! of operations, and errors that name a path.

pub mod checkpoint_file;
pub mod data_dir;
mod directories;
pub mod files;
pub mod log_stats;
pub mod log_thread;
mod paced_file;
mod segment_files;
pub mod wal_error;
pub mod wal_file;
mod wal_recovery;
