//! What the clients of a world do: each room is one kind of client, with keys of its own.

use std::pin::Pin;
use std::rc::Rc;

use madsim::task::spawn_local;

use crate::client::Client;
use crate::cluster::Cluster;

pub(crate) mod claims;
mod ears;
pub(crate) mod followers;
pub(crate) mod keys;
pub(crate) mod leases;
pub(crate) mod members;
pub(crate) mod resumers;
pub(crate) mod transfers;
pub(crate) mod watchers;

type BoxFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Sets all clients of the world to work, until faults are over.
pub(crate) fn begin(cluster: &Rc<Cluster>) {
    let world = &cluster.world;
    let client = |number| Client::new(Rc::clone(cluster), number);
    let spawn = |work: BoxFuture| {
        let cluster = Rc::clone(cluster);
        cluster.at_work.set(cluster.at_work.get() + 1);
        spawn_local(async move {
            work.await;
            cluster.at_work.set(cluster.at_work.get() - 1);
        });
    };
    for number in 1..=world.clients {
        spawn(Box::pin(keys::fight(client(number))));
    }
    for number in 1..=world.movers {
        spawn(Box::pin(transfers::transfer(client(100 + number))));
    }
    for number in 1..=world.holders {
        spawn(Box::pin(leases::hold(client(200 + number))));
    }
    for number in 1..=leases::askers(world) {
        spawn(Box::pin(leases::ask(client(250 + number))));
    }
    for number in 1..=world.watchers {
        spawn(Box::pin(watchers::watch(client(300 + number))));
    }
    for number in 1..=world.changers {
        spawn(Box::pin(members::change(client(400 + number))));
    }
    for number in 1..=world.contenders {
        spawn(Box::pin(claims::contend(client(500 + number))));
    }
    if world.storm_leases > 0 {
        for number in 1..=STORMS {
            spawn(Box::pin(leases::storm(client(800 + number))));
        }
    }
    for number in 1..=world.resumers {
        spawn(Box::pin(resumers::resume(client(700 + number))));
    }
    for number in 1..=world.followers {
        spawn(Box::pin(followers::follow(client(600 + number))));
    }
}

/// Clients that grant the leases of a storm.
const STORMS: u64 = 4;
