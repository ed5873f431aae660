//! Compiles the .proto files with a compiler written in Rust: building needs no protoc.

use std::path::PathBuf;
use std::{env, fs};

const FILES: [&str; 6] = ["auth.proto", "election.proto", "health.proto", "kv.proto", "lock.proto", "rpc.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    let grpc = env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_server(grpc)
        .build_client(grpc)
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
