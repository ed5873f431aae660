//! Generates the Rust types and services from `proto/*.proto`, without needing `protoc`.

use std::{env, error::Error, fs, path::Path};

use protox::prost::Message;

/// The roots of the API's import graph; together they reach every file of `PROTO_DIR` but the next.
const ROOTS: [&str; 6] = [
    "kv.proto",
    "auth.proto",
    "rpc.proto",
    "lock.proto",
    "election.proto",
    "health.proto",
];
/// What members say to each other, which is no part of the API.
const PEER: &str = "peer.proto";
const PROTO_DIR: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    // The directory covers each file in it, also those added later.
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={PROTO_DIR}");

    let mut descriptors = protox::compile(ROOTS, [PROTO_DIR])?;
    let peer = protox::compile([PEER], [PROTO_DIR])?;
    for descriptors in [descriptors.clone(), peer] {
        tonic_prost_build::configure()
            .build_server(true)
            .build_client(true)
            .build_transport(false)
            .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
            .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
            // An ordered map encodes equal messages to equal bytes.
            .btree_map(".")
            // A letter is read where it arrived, and nothing of it is kept.
            .bytes(".metastore.peer.v1.Letters")
            .compile_fds(descriptors)?;
    }

    // Comments and positions became Rust docs above; at run time nobody asks for them.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let out_dir = env::var("OUT_DIR")?;
    fs::write(
        Path::new(&out_dir).join("descriptors.bin"),
        descriptors.encode_to_vec(),
    )?;
    Ok(())
}
