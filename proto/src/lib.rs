//! The wire messages and services of etcd's v3 API, one module per protobuf package; no logic.
//!
//! Everything here is generated from the `.proto` files of this crate. Message and field numbers
//! are the contract with every existing client and never change. Keys, values and other `bytes`
//! fields are `Vec<u8>`: a message owns what it holds and pins no receive buffer. What members say
//! to each other is not part of that API; [`peer`] has it.
//!
//! The feature `server` adds a `<service>_server` module for each service, `client` a
//! `<service>_client` module.

#![forbid(unsafe_code)]

/// Records and events of the key space.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Users, roles and permissions.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// The main API: KV, Watch, Lease, Cluster, Maintenance and Auth.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// The lock service.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// The election service.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// The standard gRPC health service, package `grpc.health.v1`.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// What members say to each other.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod peer {
    include!(concat!(env!("OUT_DIR"), "/metastore.peer.v1.rs"));
}

/// An encoded `google.protobuf.FileDescriptorSet` of every package of the API, imports before their
/// users, without source positions. It holds the exact field names that JSON needs.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
