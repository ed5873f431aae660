//! The messages and services of etcd's v3 API. No logic lives here.
//!
//! Keys and values are `Vec<u8>` and not slices of the receive buffer: a small key that is kept would
//! otherwise keep the whole buffer with it.

/// The generated code of one protobuf package.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, unreachable_pub, clippy::all, clippy::cast_possible_truncation, clippy::clone_on_ref_ptr)]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
        }
    };
}

package!(
    /// Stored records and the events that change them.
    mvccpb,
    "mvccpb"
);
package!(
    /// Permissions, users and roles.
    authpb,
    "authpb"
);
package!(
    /// The services that clients call.
    etcdserverpb,
    "etcdserverpb"
);
package!(
    /// Locks kept by the server.
    v3lockpb,
    "v3lockpb"
);
package!(
    /// Elections kept by the server.
    v3electionpb,
    "v3electionpb"
);
package!(
    /// The standard health service of gRPC.
    health,
    "grpc.health.v1"
);

/// All packages as an encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
