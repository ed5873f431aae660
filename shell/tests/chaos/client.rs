//! What every client has: a member it talks to, and a record of what it asked and saw.

use std::rc::Rc;
use std::time::Duration;

use futures_util::stream;
use metastore_core::command::Request;
use metastore_core::kv_error::KvError;
use metastore_core::lease::LeaseError;
use metastore_core::output::{Outcome, Refusal};
use metastore_judges::history::{Ending, Record};
use metastore_judges::model::Op;
use metastore_proto::etcdserverpb::LeaseKeepAliveRequest;
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::run::Run;
use crate::cluster::connection::Connection;
use crate::cluster::random::Random;

/// One client; it does one operation after the other.
pub(crate) struct Client {
    pub(crate) run: Rc<Run>,
    pub(crate) number: u64,
    pub(crate) dice: Random,
    /// The place of the member it talks to.
    pub(crate) place: usize,
    /// The newest revision it has seen.
    pub(crate) seen: i64,
    connection: Option<Connection>,
    operations: u64,
}

impl Client {
    /// The client of this number.
    pub(crate) fn new(run: Rc<Run>, number: u64) -> Self {
        let mut dice = Random::seeded(run.seed.wrapping_add(number << 32));
        let place = dice.index(run.members.count());
        Self {
            run,
            number,
            dice,
            place,
            seen: 1,
            connection: None,
            operations: 0,
        }
    }

    /// Whether faults go on, and with them the work.
    pub(crate) fn goes_on(&self) -> bool {
        self.run.faulty.get()
    }

    /// Rests between two operations.
    pub(crate) async fn pause(&mut self) {
        sleep(Duration::from_millis(2 + self.dice.below(50))).await;
    }

    /// Turns to any member, with a new connection.
    pub(crate) fn go_anywhere(&mut self) {
        let place = self.dice.index(self.run.members.count());
        self.turn_to(place);
    }

    /// Turns to the member in this place, with a new connection.
    pub(crate) fn turn_to(&mut self, place: usize) {
        self.place = place;
        self.connection = None;
    }

    /// The connection to its member. Without one it rests a little, and turns elsewhere.
    pub(crate) async fn connected(&mut self) -> Option<Connection> {
        if self.connection.is_none() {
            let address = self.run.members.client_address(self.place);
            let opened = timeout(CONNECT_LIMIT, Connection::open(address)).await;
            self.connection = opened.ok().and_then(Result::ok);
        }
        if self.connection.is_none() {
            self.go_anywhere();
            sleep(Duration::from_millis(20)).await;
        }
        self.connection.clone()
    }

    /// Does one operation, and writes down what came of it. Where there is no connection nothing was asked.
    pub(crate) async fn perform(&mut self, op: Op) -> Option<Ending> {
        let mut connection = self.connected().await?;
        let run = Rc::clone(&self.run);
        let place = run.history.borrow().len();
        let begun = run.moment();
        run.history.borrow_mut().push(Record {
            client: self.number,
            op: op.clone(),
            begun,
            ended: None,
        });
        let asked = timeout(PATIENCE, ask(&mut connection, &op)).await;
        let ending = match asked {
            Ok(Ok(ending)) => ending,
            Ok(Err(status)) => refused(&op, &status),
            Err(_) => Ending::Lost,
        };
        self.seen = self.seen.max(ending.revision().unwrap_or(0));
        let lost = matches!(ending, Ending::Lost | Ending::Refused(Refusal::TimedOut));
        if lost || self.dice.percent(1) {
            self.go_anywhere();
        }
        run.history.borrow_mut()[place].ended = Some((run.moment(), ending.clone()));
        Some(ending)
    }

    /// Whether the member in this place serves a write now.
    pub(crate) async fn is_served_by(&mut self, place: usize) -> bool {
        self.turn_to(place);
        let write = Op::put(b"k00".to_vec(), self.value());
        matches!(self.perform(write).await, Some(Ending::Wrote(_)))
    }

    /// A value nobody else writes, sometimes a longer one.
    pub(crate) fn value(&mut self) -> Vec<u8> {
        let mut value = self.mark();
        if self.dice.percent(10) {
            let length = 100 + self.dice.index(20_000);
            value.resize(length, b'.');
        }
        value
    }

    /// A word that nobody else writes, and this client only once.
    pub(crate) fn mark(&mut self) -> Vec<u8> {
        self.operations += 1;
        format!("c{}o{}", self.number, self.operations).into_bytes()
    }
}

async fn ask(to: &mut Connection, op: &Op) -> Result<Ending, Status> {
    if let Some(mut request) = op.range() {
        request.serializable = matches!(
            op,
            Op::Read {
                serializable: true,
                ..
            }
        );
        let response = to.kv.range(request).await?.into_inner();
        return Ok(Ending::Read(Ok(response)));
    }
    let Some(request) = op.request() else {
        let Op::Renew { id } = *op else {
            unreachable!("everything else is a request");
        };
        let renewal = stream::iter([LeaseKeepAliveRequest { id }]);
        let mut answers = to.lease.lease_keep_alive(renewal).await?.into_inner();
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| Status::unknown("the stream ended without an answer"))?;
        return Ok(Ending::Renewed {
            ttl_seconds: answer.ttl,
        });
    };
    Ok(Ending::Wrote(match request {
        Request::Put(it) => Outcome::Put(to.kv.put(it).await?.into_inner()),
        Request::DeleteRange(it) => {
            Outcome::DeleteRange(to.kv.delete_range(it).await?.into_inner())
        }
        Request::Txn(it) => Outcome::Txn(to.kv.txn(it).await?.into_inner()),
        Request::Compact(it) => Outcome::Compact {
            physical: it.physical,
            response: to.kv.compact(it).await?.into_inner(),
        },
        Request::LeaseGrant(it) => {
            Outcome::LeaseGranted(to.lease.lease_grant(it).await?.into_inner())
        }
        Request::LeaseRevoke(it) => {
            Outcome::LeaseRevoked(to.lease.lease_revoke(it).await?.into_inner())
        }
        _ => unreachable!("no client asks for anything else"),
    }))
}

/// What a refusal tells. Only a refusal by the state is sure to have changed nothing; of all others nobody knows.
fn refused(op: &Op, status: &Status) -> Ending {
    let errors = [
        KvError::Compacted,
        KvError::FutureRevision,
        KvError::LeaseNotFound,
    ];
    let told = errors
        .into_iter()
        .find(|it| it.to_string() == status.message());
    match (op, told) {
        (Op::Revoke { .. }, Some(KvError::LeaseNotFound)) => {
            Ending::Refused(Refusal::Lease(LeaseError::NotFound))
        }
        (Op::Read { .. }, Some(error)) => Ending::Read(Err(error)),
        (_, Some(error)) => Ending::Refused(Refusal::Kv(error)),
        (_, None) => Ending::Lost,
    }
}

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Longer than some failovers take, shorter than a member lets a request wait.
const PATIENCE: Duration = Duration::from_secs(4);
