//! The wire messages and services of etcd's v3 API, one module per protobuf package; no logic.
//!
//! Everything here is generated from the `.proto` files of this crate. Message and field numbers
//! are the contract with every existing client and never change. Keys, values and other `bytes`
//! fields are `Vec<u8>`: a message owns what it holds and pins no receive buffer.
//!
//! Each service gives a `<service>_server` module. The `<service>_client` modules exist with the
//! cargo feature `client`.

#![forbid(unsafe_code)]

/// Records and events of the key space.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Users, roles and permissions.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// The main API: KV, Watch, Lease, Cluster, Maintenance and Auth.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The lock service.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

/// The election service.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// The standard gRPC health service, package `grpc.health.v1`.
#[allow(missing_docs, clippy::all, clippy::clone_on_ref_ptr)]
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// An encoded `google.protobuf.FileDescriptorSet` of every package above, imports before their
/// users, without source positions. It holds the exact field names that JSON needs.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
