//! `metastore-bench`: puts load on a server that speaks the etcd v3 API, and compares two of them.
//!
//! One thread, HTTP/2 frames written by hand and requests encoded once, so that the processor time of the load
//! is a small part of what the server needs for it.

mod answer;
mod arguments;
mod ask;
mod compare;
mod drive;
mod frame;
mod histogram;
mod hpack;
mod http2;
mod huffman;
mod links;
mod message;
mod process;
mod random;
mod report;
mod schedule;
mod server;
mod status;
mod suite;
mod table;
mod wire;
mod workload;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Load, Verb};
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
            let plan = fill.plan()?;
            let measurement = drive::run(&plan, &mut fill.workload()?)?;
            print!(
                "{}",
                Report {
                    name: "fill",
                    measurement: &measurement
                }
            );
            Ok(measurement.failures.is_empty())
        }
        Verb::Compare(options) => compare::compare(&options),
    }
}

fn run(name: &str, load: &Load, mut workload: Workload) -> io::Result<bool> {
    let measurement = drive::run(&load.plan()?, &mut workload)?;
    let report = Report {
        name,
        measurement: &measurement,
    };
    if load.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(load.allow_errors || measurement.failures.is_empty())
}
