//! A majority whose members all reach each other serves, whatever the others say and hear.
//!
//! When everything has healed some ways are cut for a while, each direction for itself, so that a majority has all ways
//! among its own members. The others may hear it or not, be heard or not, and one of them may be the leader. Then a client
//! asks each member of the majority, and one of them must do what it is asked.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use madsim::task::spawn_local;
use madsim::time::sleep;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::mailbox::Mailbox;
use crate::network::Way;
use crate::sometimes::Situation;
use crate::trace::now;
use metastore_judges::Failure;
use metastore_judges::history::Ending;
use metastore_judges::model::Op;

/// Which ways are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    /// Its members have all ways among each other.
    majority: Vec<u64>,
    apart: Vec<u64>,
    cuts: Vec<Way>,
}

/// What the ways of one that is not in the majority are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Apart {
    /// Each is open or not.
    AtRandom,
    /// It is heard and hears nobody.
    Deaf,
    /// It has those to some members, in both directions.
    WithFew,
}

/// Cuts ways, and asks the majority to serve.
pub(crate) async fn serves(cluster: &Rc<Cluster>) -> Result<(), Failure> {
    let voters = voters(cluster);
    if voters.len() < 3 {
        return Ok(());
    }
    let leader = voters.iter().copied().find(|id| {
        let life = cluster.life(*id);
        life.is_some_and(|life| life.leads.get())
    });
    let stream = format!("majority {}", cluster.round.get());
    let mut dice = Dice::new(cluster.world.seed, &stream);
    let shape = Shape::draw(&mut dice, voters, leader);
    cluster.trace.note(format_args!("{shape}"));
    for way in &shape.cuts {
        if cluster.network.borrow_mut().cut(*way) && !cluster.world.silent_loss {
            cluster.break_connection(way.0, way.1);
        }
    }
    let asking = Asking::begin(cluster, &shape.majority);
    let served = asking.is_served().await;
    for way in &shape.cuts {
        cluster.network.borrow_mut().mend(*way);
    }
    cluster.trace.note(format_args!("all ways are open again"));
    asking.end().await;
    let was_heard = leader.is_some_and(|leader| shape.is_heard_from_apart(leader));
    let some = &cluster.sometimes;
    some.saw_if(served && was_heard, Situation::ElectedBesideLeader);
    match served {
        true => Ok(()),
        false => {
            let story = format!("a majority does not serve within {PATIENCE:?}: {shape}");
            Err(Failure::new("majority", story))
        }
    }
}

/// Those of the newest membership.
fn voters(cluster: &Cluster) -> Vec<u64> {
    let judges = cluster.judges.borrow();
    let newest = judges.memberships.newest();
    let voters = newest.map(|newest| newest.voters.iter().flatten().copied().collect());
    voters.unwrap_or_default()
}

/// Clients that ask all of a majority at the same time, until one of them has written something.
struct Asking {
    until: Duration,
    served: Rc<Cell<bool>>,
    clients: usize,
    ends: Mailbox<()>,
}

impl Asking {
    fn begin(cluster: &Rc<Cluster>, members: &[u64]) -> Self {
        let asking = Self {
            until: now() + PATIENCE,
            served: Rc::default(),
            clients: members.len(),
            ends: Mailbox::new(),
        };
        for (number, id) in (ASKERS..).zip(members.iter().copied()) {
            let client = Client::new(Rc::clone(cluster), number);
            let (until, served) = (asking.until, Rc::clone(&asking.served));
            let ends = asking.ends.clone();
            spawn_local(async move {
                insist(client, id, until, &served).await;
                ends.push(());
            });
        }
        asking
    }

    /// Whether anybody was served in time.
    async fn is_served(&self) -> bool {
        while !self.served.get() && now() < self.until {
            sleep(Duration::from_millis(20)).await;
        }
        self.served.get()
    }

    /// What the others have asked comes to its end.
    async fn end(self) {
        for _ in 0..self.clients {
            self.ends.recv().await;
        }
    }
}

async fn insist(mut client: Client, id: u64, until: Duration, served: &Cell<bool>) {
    while !served.get() && now() < until {
        client.member = id;
        // It needs no room, and changes nothing.
        let op = Op::Delete {
            key: b"k99".to_vec(),
            end: Vec::new(),
        };
        if let Ending::Wrote(_) = client.perform(op).await {
            served.set(true);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

impl Shape {
    /// The leader is mostly apart.
    fn draw(dice: &mut Dice, mut voters: Vec<u64>, leader: Option<u64>) -> Self {
        let quorum = voters.len() / 2 + 1;
        let size = quorum + dice.place(voters.len() - quorum);
        for place in (1..voters.len()).rev() {
            voters.swap(place, dice.place(place + 1));
        }
        let at = leader.and_then(|leader| voters.iter().position(|id| *id == leader));
        if let Some(at) = at
            && dice.permille(750)
        {
            let last = voters.len() - 1;
            voters.swap(at, last);
        }
        let apart = voters.split_off(size);
        let mut cuts = Vec::new();
        for (place, one) in apart.iter().enumerate() {
            let others = voters.iter().chain(&apart[place + 1..]);
            let how = [Apart::AtRandom, Apart::Deaf, Apart::WithFew][dice.place(3)];
            for other in others {
                let both = dice.permille(500);
                let (to, from) = match how {
                    Apart::AtRandom => (both, dice.permille(500)),
                    Apart::Deaf => (false, true),
                    Apart::WithFew => (both, both),
                };
                cuts.extend(to.then_some((*one, *other)));
                cuts.extend(from.then_some((*other, *one)));
            }
        }
        Self {
            majority: voters,
            apart,
            cuts,
        }
    }

    /// Whether a member is not in the majority, has no quorum, and yet is heard by one of the majority.
    fn is_heard_from_apart(&self, id: u64) -> bool {
        let open = |from, to| !self.cuts.contains(&(from, to));
        let all = self.majority.iter().chain(&self.apart);
        let in_touch = all.filter(|other| open(id, **other) && open(**other, id));
        // It is in touch with itself.
        let has_quorum = 2 * in_touch.count() > self.majority.len() + self.apart.len();
        let is_heard = self.majority.iter().any(|other| open(id, *other));
        self.apart.contains(&id) && !has_quorum && is_heard
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the majority of")?;
        self.majority
            .iter()
            .try_for_each(|id| write!(f, " m{id}"))?;
        f.write_str(" has all ways; cut are")?;
        let mut cuts = self.cuts.iter();
        cuts.try_for_each(|(from, to)| write!(f, " m{from}→m{to}"))
    }
}

/// The numbers of the clients that ask.
const ASKERS: u64 = 1010;
/// A leader that is heard and hears no quorum is silent twice within it, for two election timeouts each.
const PATIENCE: Duration = Duration::from_secs(12);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_whole_and_mostly_without_the_leader() {
        let (mut apart, mut heard) = (0, 0);
        for seed in 0..1000 {
            let mut dice = Dice::new(seed, "shape");
            let shape = Shape::draw(&mut dice, vec![1, 2, 3, 4, 5], Some(2));
            let majority = &shape.majority;
            assert!((3..5).contains(&majority.len()), "{shape}");
            assert_eq!(majority.len() + shape.apart.len(), 5, "{shape}");
            for (from, to) in &shape.cuts {
                let inside = majority.contains(from) && majority.contains(to);
                assert!(from != to && !inside, "{shape}");
            }
            apart += u32::from(!majority.contains(&2));
            heard += u32::from(shape.is_heard_from_apart(2));
        }
        assert!((700..900).contains(&apart), "{apart}");
        assert!(heard > 250, "{heard}");
    }

    #[test]
    fn a_leader_in_touch_with_a_quorum_is_not_beside_the_majority() {
        let shape = |cuts: &[Way]| Shape {
            majority: vec![1, 2, 3],
            apart: vec![4, 5],
            cuts: cuts.to_vec(),
        };
        let heard = |cuts: &[Way]| shape(cuts).is_heard_from_apart(5);
        assert!(!heard(&[(1, 5)]));
        assert!(heard(&[(1, 5), (2, 5), (3, 5)]));
        assert!(!heard(&[(5, 1), (5, 2), (5, 3)]));
        assert!(!shape(&[(1, 2)]).is_heard_from_apart(1));
    }
}
