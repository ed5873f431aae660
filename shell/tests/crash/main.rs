//! Kill -9 at random moments under load: nothing acknowledged is lost, nothing half done stays.
//!
//! `METASTORE_TEST_CRASHES` sets the number of kills, `METASTORE_TEST_SEED` replays the drawn times
//! (though not what the machine does meanwhile).

#[path = "../cluster/mod.rs"]
mod cluster;
mod damage;
mod ledger;
mod load;

use std::{fs, thread, time::Duration};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    random::{Random, number_from_environment, seed_of_this_run},
    server_process::ServerProcess,
};
use ledger::Ledger;

#[test]
fn a_killed_server_keeps_every_acknowledged_write() {
    let rounds = number_from_environment("METASTORE_TEST_CRASHES").unwrap_or(ROUNDS);
    let seed = seed_of_this_run();
    println!("a_killed_server_keeps_every_acknowledged_write: seed {seed}, {rounds} rounds");
    let mut random = Random::seeded(seed);
    let mut server = ServerProcess::metastore(&FLAGS);
    let mut ledger = Ledger::default();
    let mut survived = 0;
    server.start();
    in_one_session(&server, async |connection| {
        load::open_accounts(connection, &mut ledger).await;
    });
    for round in 1..=rounds {
        let load_time = Duration::from_millis(random.below(390) + 10);
        load::run_until_killed(&mut server, &mut ledger, &mut random, round, load_time);
        // Recovery is a bad moment to die, too; no load, so nothing may change.
        while random.percent(30) {
            server.spawn();
            thread::sleep(Duration::from_micros(random.below(60_000)));
            server.kill();
        }
        server.start();
        in_one_session(&server, async |connection| {
            ledger.check_and_adopt(connection, &mut random).await;
        });
        survived += 1;
        println!(
            "round {round}: killed after {load_time:?}; {}",
            ledger.summary()
        );
    }
    assert!(
        ledger.acknowledged() > rounds * ACKNOWLEDGED_PER_ROUND_MIN,
        "hardly anything was acknowledged between the kills, so this run proves little"
    );
    let snapshots = server.data_dir().join("member/snap");
    let made = fs::read_dir(&snapshots).is_ok_and(|mut entries| entries.next().is_some());
    assert!(
        made || ledger.bytes_acknowledged < LOG_BYTES_THAT_MAKE_A_SNAPSHOT,
        "no snapshot in {} after {}",
        snapshots.display(),
        ledger.summary()
    );
    println!("{survived} kills survived");
}

#[test]
fn a_stopped_server_ends_by_the_signal_and_keeps_its_state() {
    let mut random = Random::seeded(1);
    let mut server = ServerProcess::metastore(&FLAGS);
    let mut ledger = Ledger::default();
    server.start();
    in_one_session(&server, async |connection| {
        load::open_accounts(connection, &mut ledger).await;
    });
    let status = server.stop();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(libc::SIGTERM),
        "a graceful stop ends with the signal that asked for it, not with {status}"
    );
    server.start();
    in_one_session(&server, async |connection| {
        ledger.check_and_adopt(connection, &mut random).await;
    });
}

/// Runs `talk` over a fresh connection to a server that is ready.
fn in_one_session<T>(server: &ServerProcess, talk: impl AsyncFnOnce(&mut Connection) -> T) -> T {
    single_threaded_runtime().block_on(async {
        let mut connection = Connection::open(server.client_address())
            .await
            .expect("the server is ready");
        talk(&mut connection).await
    })
}

/// Short elections, so that a round is mostly load; frequent snapshots, so that kills meet them.
const FLAGS: [&str; 3] = [
    "--snapshot-count=500",
    "--heartbeat-interval=20",
    "--election-timeout=200",
];
/// Well above the 64 MiB of log after which a snapshot is due.
const LOG_BYTES_THAT_MAKE_A_SNAPSHOT: u64 = 4 * (64 << 20);
const ROUNDS: u64 = 5;
const ACKNOWLEDGED_PER_ROUND_MIN: u64 = 5;
