//! What the clients of a world do: each room is one kind of client, with keys of its own.

use std::rc::Rc;

use madsim::task::spawn_local;

use crate::client::Client;
use crate::cluster::Cluster;

pub(crate) mod claims;
pub(crate) mod followers;
pub(crate) mod keys;
pub(crate) mod leases;
pub(crate) mod members;
pub(crate) mod resumers;
pub(crate) mod transfers;
pub(crate) mod watchers;

/// Sets all clients of the world to work, until faults are over.
pub(crate) fn begin(cluster: &Rc<Cluster>) {
    let world = &cluster.world;
    let client = |number| Client::new(Rc::clone(cluster), number);
    for number in 1..=world.clients {
        spawn_local(keys::fight(client(number)));
    }
    for number in 1..=world.movers {
        spawn_local(transfers::transfer(client(100 + number)));
    }
    for number in 1..=world.holders {
        spawn_local(leases::hold(client(200 + number)));
    }
    for number in 1..=world.watchers {
        spawn_local(watchers::watch(client(300 + number)));
    }
    for number in 1..=world.changers {
        spawn_local(members::change(client(400 + number)));
    }
    for number in 1..=world.contenders {
        spawn_local(claims::contend(client(500 + number)));
    }
    for number in 1..=world.resumers {
        spawn_local(resumers::resume(client(700 + number)));
    }
    for number in 1..=world.followers {
        spawn_local(followers::follow(client(600 + number)));
    }
}
