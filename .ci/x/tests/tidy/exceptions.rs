//! What may break a rule, and why. Lists only get shorter.

use crate::imports::Exception;

/// Files longer than a file may be, with their exact lengths.
pub(crate) const LONG_FILES: &[(&str, usize)] = &[];

/// Functions longer than a function may be, as `path::name`, with their exact lengths.
pub(crate) const LONG_FUNCTIONS: &[(&str, usize)] = &[
    (
        "core/src/raft/executor/tests/cost.rs::cost_of_the_hot_paths",
        77,
    ),
    ("core/src/mvcc/model.rs::read", 75),
    ("core/src/mvcc/tests.rs::tell", 86),
    (
        "core/src/mvcc/tests.rs::the_store_agrees_with_the_model",
        72,
    ),
    ("shell/src/disk/wal_recovery.rs::read_chain", 76),
    ("shell/tests/refusals.rs::refusals_of_single_requests", 92),
    ("shell/tests/refusals.rs::refusals_of_transactions", 148),
    (
        "shell/src/config/tests/flags.rs::malformed_command_lines_end_with_their_code",
        87,
    ),
    (
        "shell/src/config/tests/refusals.rs::settings_that_would_be_dangerous_to_ignore_are_refused_by_name",
        100,
    ),
    (
        "shell/src/config/tests/values.rs::the_defaults_are_those_users_know",
        77,
    ),
];

/// Imports from outside a folder's world.
pub(crate) const IMPORTS: &[Exception] = &[
    Exception {
        file: "shell/src/grpc/cluster.rs",
        path: "std::time::SystemTime",
        why: "part of what an id of a new member is made of, as etcd makes it; a taken id is refused",
    },
    Exception {
        file: "core/src/raft/executor/wake.rs",
        path: "std::thread",
        why: "asserts that a waker is used on the executor's own thread; starts none",
    },
    Exception {
        file: "core/src/raft/executor/tests.rs",
        path: "std::thread",
        why: "shows that a waker refuses a second thread",
    },
    Exception {
        file: "core/src/raft/executor/tests/cost.rs",
        path: "std::time::Instant",
        why: "an ignored test that measures",
    },
];

/// Roots of crates that cannot forbid unsafe code.
pub(crate) const UNSAFE_CRATES: &[(&str, &str)] = &[(
    "benches/src/main.rs",
    "asks the kernel for a scheduling class",
)];
