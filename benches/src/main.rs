//! `metastore-bench`: puts load on a server that speaks the etcd v3 API, and compares two of them.
//!
//! One thread, HTTP/2 frames written by hand and requests encoded once, so that the processor time of the load
//! is a small part of what the server needs for it.

mod answer;
mod arguments;
mod ask;
mod cluster;
mod compare;
mod conversation;
mod drive;
mod frame;
mod histogram;
mod hpack;
mod http2;
mod huffman;
#[cfg(test)]
mod imitation;
mod lease;
mod links;
mod measurement;
mod message;
mod ports;
mod process;
mod random;
mod report;
mod schedule;
mod server;
mod status;
mod stm;
mod suite;
mod table;
mod watch;
mod wire;
mod workload;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Load, Verb};
use crate::measurement::Measurement;
use crate::report::Report;
use crate::workload::Workload;

fn main() -> ExitCode {
    match perform(Arguments::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("metastore-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Performs the verb and answers whether everything asked was answered well.
fn perform(verb: Verb) -> io::Result<bool> {
    match verb {
        Verb::Put(put) => run("put", &put.load, put.workload(&put.load)?),
        Verb::Range(range) => run("range", &range.load, range.workload(&range.load)?),
        Verb::TxnPut(txn) => run("txn-put", &txn.load, txn.workload(&txn.load)?),
        Verb::Mixed(mixed) => run("mixed", &mixed.load, mixed.workload(&mixed.load)?),
        Verb::Fill(fill) => {
            let measurement = drive::run(&fill.plan()?, &mut fill.workload()?)?;
            Ok(show("fill", &measurement, false))
        }
        Verb::Watch(it) => Ok(show("watch", &it.measure()?, it.run.json)),
        Verb::WatchLatency(it) => Ok(show("watch-latency", &it.measure()?, it.run.json)),
        Verb::WatchCreate(it) => Ok(show("watch-create", &it.measure()?, it.run.json)),
        Verb::SlowWatchers(it) => Ok(show("slow-watchers", &it.measure()?, it.run.json)),
        Verb::LeaseGrant(grant) => run("lease-grant", &grant.load, grant.workload(&grant.load)),
        Verb::LeaseKeepalive(it) => Ok(show("lease-keepalive", &it.measure()?, it.run.json)),
        Verb::LeaseExpiry(it) => Ok(show("lease-expiry", &it.measure()?, it.run.json)),
        Verb::Stm(it) => Ok(show("stm", &it.measure()?, it.run.json)),
        Verb::Compare(options) => compare::compare(&options),
    }
}

fn run(name: &str, load: &Load, mut workload: Workload) -> io::Result<bool> {
    let measurement = drive::run(&load.plan()?, &mut workload)?;
    Ok(show(name, &measurement, load.json) || load.allow_errors)
}

/// Prints what was measured and answers whether nothing failed.
fn show(name: &str, measurement: &Measurement, json: bool) -> bool {
    let report = Report { name, measurement };
    if json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    measurement.failures.is_empty()
}
