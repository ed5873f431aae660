//! Real server processes for tests over real sockets: start, kill, restart, talk to.

#![allow(
    dead_code,
    reason = "every test target compiles this module and uses its own part of it"
)]

pub(crate) mod connection;
pub(crate) mod etcd_programs;
pub(crate) mod etcdctl_tour;
pub(crate) mod eventually;
pub(crate) mod operation;
#[path = "../../../benches/src/ports.rs"]
pub(crate) mod ports;
pub(crate) mod random;
pub(crate) mod server_process;
pub(crate) mod several;
pub(crate) mod watch_stream;
