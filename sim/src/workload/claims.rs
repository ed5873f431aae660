//! Clients that want to own a name, as locks and elections have it: they claim it with a lease, wait in line at one
//! member after the other, leave marks while they own it, and give it up or let their lease run out.

use std::rc::Rc;
use std::time::Duration;

use madsim::time::{sleep, timeout};
use metastore_core::claim::{Claim, Place};
use metastore_core::output::Outcome;
use metastore_core::watch::Content;

use super::ears::Ear;
use crate::client::Client;
use crate::cluster::Life;
use crate::plant::Plant;
use crate::trace::now;
use metastore_judges::Failure;
use metastore_judges::claims::{Look, MARKS, PREFIX, Tenure, mark};
use metastore_judges::history::Ending;
use metastore_judges::leases::surely;
use metastore_judges::model::Op;

/// Works until faults are over.
pub(crate) async fn contend(mut client: Client) {
    for number in 1.. {
        if !client.goes_on() {
            return;
        }
        client.pause().await;
        let name = name(client.dice.place(NAMES.len()));
        let ttl_seconds = i64::try_from(client.dice.between(2, 6)).unwrap_or(2);
        let Some(mut session) = Session::open(&mut client, number, ttl_seconds).await else {
            continue;
        };
        let patience = Duration::from_millis(client.dice.between(500, 20_000));
        let tired = now() + patience;
        let claim = session
            .own(&mut client, &name, |client| {
                client.goes_on() && now() < tired
            })
            .await;
        match claim {
            Some(claim) => reign(&mut client, &mut session, &name, claim).await,
            None => give_back(&mut client, &session).await,
        }
    }
}

/// In the second act: every name comes to whoever waits for it.
pub(crate) async fn come_round(mut client: Client) -> Result<(), Failure> {
    for (place, number) in (0..NAMES.len()).zip(1..) {
        let name = name(place);
        let tired = now() + COMES_ROUND;
        let mut own = None;
        while own.is_none() && now() < tired {
            let members = client.cluster.belonging();
            if members.is_empty() {
                break;
            }
            client.member = members[client.dice.place(members.len())];
            if let Some(mut session) = Session::open(&mut client, number, 5).await {
                own = session.own(&mut client, &name, |_| now() < tired).await;
            }
        }
        let Some(claim) = own else {
            let name = name.escape_ascii();
            let story = format!("{name} never comes to who waits for it");
            return Err(Failure::new("liveness", story));
        };
        let withdraw = Op::Withdraw {
            claim: claim.key,
            revision: claim.revision,
        };
        client.perform(withdraw).await;
    }
    Ok(())
}

/// A lease, and until when its holder knows it to live.
struct Session {
    lease: i64,
    ttl_seconds: i64,
    alive_until: Duration,
}

impl Session {
    async fn open(client: &mut Client, number: u64, ttl_seconds: i64) -> Option<Self> {
        let lease = i64::try_from(client.number * 10_000 + number).unwrap_or(1);
        let (begun, rate_ppm) = (now(), client.cluster.world.clock_rate_ppm_max);
        let id = lease;
        let granted = client.perform(Op::Grant { id, ttl_seconds }).await;
        matches!(granted, Ending::Wrote(_)).then(|| Self {
            lease,
            ttl_seconds,
            alive_until: begun + surely(ttl_seconds, rate_ppm),
        })
    }

    /// Renews the lease; answers whether it may still live.
    async fn renew(&mut self, client: &mut Client) -> bool {
        if client.dice.permille(200) {
            client.go_anywhere();
        }
        let (begun, rate_ppm) = (now(), client.cluster.world.clock_rate_ppm_max);
        match client.perform(Op::Renew { id: self.lease }).await {
            Ending::Renewed { ttl_seconds: 0 } => return false,
            Ending::Renewed { .. } => self.alive_until = begun + surely(self.ttl_seconds, rate_ppm),
            _ => sleep(Duration::from_millis(50)).await,
        }
        now() < self.alive_until
    }

    /// Waits until a name is its own; none if that cannot be any more, or the client has had enough.
    async fn own(
        &mut self,
        client: &mut Client,
        name: &[u8],
        goes_on: impl Fn(&Client) -> bool,
    ) -> Option<Claim> {
        while goes_on(client) && now() < self.alive_until {
            let Some((life, claim)) = self.stake(client, name).await else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            while goes_on(client) && life.alive.get() {
                client.cluster.until_it_goes(&life).await;
                if now() >= self.alive_until {
                    return None;
                }
                match look(client, &life, &claim) {
                    Place::Owner => return Some(claim),
                    Place::Lost => return None,
                    Place::Behind(before) => {
                        let third = u64::try_from(self.ttl_seconds * 1000 / 3).unwrap_or(1000);
                        let patience = Duration::from_millis(client.dice.between(100, third));
                        let heard = until_one_goes(client, &life, &claim, &before, patience).await;
                        let planted = client.cluster.world.plant == Some(Plant::OwnsUnlooked);
                        if planted && heard {
                            return Some(claim);
                        }
                    }
                }
                if !self.renew(client).await {
                    return None;
                }
            }
        }
        None
    }

    /// Claims the name at one member; with the life of it that answered.
    async fn stake(&self, client: &mut Client, name: &[u8]) -> Option<(Rc<Life>, Claim)> {
        let life = client.cluster.life(client.member);
        let stake = Op::Stake {
            name: name.to_vec(),
            lease: self.lease,
            value: client.mark(),
        };
        let Ending::Wrote(Outcome::Txn(response)) = client.perform(stake).await else {
            return None;
        };
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let (claim, _) = Claim::staked(name, self.lease, revision, response);
        Some((life?, claim))
    }
}

/// Where a claim stands, as a member sees it.
fn look(client: &Client, life: &Life, claim: &Claim) -> Place {
    let view = life.published.borrow().view.clone();
    let place = claim.place(&view);
    let place = place.expect("the newest revision can be read");
    client.cluster.trace.detail(format_args!(
        "client {} finds its claim {}@{} on m{} at revision {}: {place:?}",
        client.number,
        claim.key.escape_ascii(),
        claim.revision,
        life.id,
        view.revision()
    ));
    client.cluster.looks.borrow_mut().push(Look {
        client: client.number,
        claim: claim.clone(),
        at: view.revision(),
        place: place.clone(),
    });
    place
}

/// Waits at a member until the claim before goes, or the own one does, but no longer than this; answers whether one did.
async fn until_one_goes(
    client: &Client,
    life: &Rc<Life>,
    claim: &Claim,
    before: &[u8],
    patience: Duration,
) -> bool {
    let from = life.published.borrow().view.revision() + 1;
    let mut ear = Ear::open(&client.cluster, life);
    for request in claim.watches(before, from) {
        ear.create(&request);
    }
    let heard = async {
        while let Ok(response) = ear.next().await {
            if let Content::Events(_) | Content::Compacted { .. } = response.content {
                return;
            }
        }
    };
    // Either way it is time for another look.
    let heard = timeout(patience, heard).await.is_ok();
    ear.close();
    heard
}

/// Owns a name for a while, leaves marks, and gives it up in one way or another.
async fn reign(client: &mut Client, session: &mut Session, name: &[u8], claim: Claim) {
    let tenure = {
        let ordinal = client.cluster.trace.note(format_args!(
            "client {} owns {} by revision {}",
            client.number,
            name.escape_ascii(),
            claim.revision
        ));
        let mut tenures = client.cluster.tenures.borrow_mut();
        tenures.push(Tenure {
            client: client.number,
            claim: claim.clone(),
            since: client.cluster.moment(ordinal),
            until: None,
        });
        tenures.len() - 1
    };
    for _ in 0..client.dice.between(0, 6) {
        client.pause().await;
        if !client.goes_on() || now() >= session.alive_until {
            return;
        }
        let word = client.mark();
        let marked = Op::Mark {
            claim: claim.key.clone(),
            revision: claim.revision,
            key: [MARKS, &name[PREFIX.len()..]].concat(),
            value: mark(&claim, &word),
        };
        if let Ending::Wrote(Outcome::Txn(response)) = client.perform(marked).await
            && !response.succeeded
        {
            break;
        }
        if !session.renew(client).await {
            break;
        }
    }
    client.cluster.tenures.borrow_mut()[tenure].until = Some(now());
    if !client.goes_on() {
        return;
    }
    if client.dice.permille(600) {
        let withdraw = Op::Withdraw {
            claim: claim.key,
            revision: claim.revision,
        };
        client.perform(withdraw).await;
    } else {
        give_back(client, session).await;
    }
}

/// Perhaps gives the lease back; otherwise it runs out.
async fn give_back(client: &mut Client, session: &Session) {
    if client.goes_on() && client.dice.permille(300) {
        client.perform(Op::Revoke { id: session.lease }).await;
    }
}

fn name(place: usize) -> Vec<u8> {
    [PREFIX, NAMES[place]].concat()
}

const NAMES: [&[u8]; 2] = [b"lock", b"seat"];
/// Longer than any lease lives that nobody renews, and all that may stand in line.
const COMES_ROUND: Duration = Duration::from_secs(40);
