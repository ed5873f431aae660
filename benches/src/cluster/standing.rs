//! How members stand: who leads them, and how far behind the leader one of them is.

use std::net::SocketAddr;
use std::time::Duration;

use super::line::{self, Line};
use crate::answer::{self, Malformed, Standing};
use crate::ask::Ask;
use crate::message::{MOVE_LEADER_PATH, Message, RANGE_PATH, RangeOptions, STATUS_PATH};
use crate::status::Failure;

/// Which of the members at `endpoints` leads, if all of them say the same; otherwise what they say instead.
pub(crate) fn agreed_leader(endpoints: &[SocketAddr]) -> Result<usize, String> {
    let mut standings = Vec::new();
    for endpoint in endpoints {
        let standing = standing(&mut open(*endpoint).map_err(|it| it.to_string())?);
        standings.push(standing.map_err(|failure| format!("{endpoint}: {failure}"))?);
    }
    let leader_id = standings.first().map_or(0, |first| first.leader_id);
    if standings.iter().any(|it| it.leader_id != leader_id) {
        return Err(format!("the members disagree: {standings:?}"));
    }
    let leader = standings.iter().position(|it| it.member_id == leader_id);
    leader.ok_or_else(|| format!("none of the members leads: {standings:?}"))
}

/// What `member` has not applied of what `leader` had applied before it was asked; `None` if there is no such thing.
///
/// It is held against the leader twice: by the index it has applied, and by the revision its data answers from.
pub(crate) fn behind(member: SocketAddr, leader: SocketAddr) -> Result<Option<String>, Failure> {
    let lead = far(&mut open(leader)?)?;
    let own = far(&mut open(member)?)?;
    let in_sync = own.applied_index >= lead.applied_index && own.revision >= lead.revision;
    Ok((!in_sync).then(|| format!("it has {own:?}, the leader had {lead:?}")))
}

/// Asks the member at `leader`, which leads, to give that over to `target`.
pub(crate) fn move_leader(
    leader: SocketAddr,
    target: SocketAddr,
    patience: Duration,
) -> Result<(), Failure> {
    let target = standing(&mut open(target)?)?.member_id;
    let mut ask = Ask::default();
    line::once(leader, patience, MOVE_LEADER_PATH, ask.move_leader(target)).map(drop)
}

/// How far a member has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Far {
    applied_index: u64,
    revision: u64,
}

fn far(line: &mut Line) -> Result<Far, Failure> {
    let applied_index = standing(line)?.applied_index;
    let serializable = RangeOptions {
        serializable: true,
        ..RangeOptions::default()
    };
    let range = Message::fixed_range("", b"0", b"", serializable);
    let answer = line.call(RANGE_PATH, range.body())?;
    let revision = answer::revision(answer).map_err(|Malformed| malformed())?;
    Ok(Far {
        applied_index,
        revision,
    })
}

fn standing(line: &mut Line) -> Result<Standing, Failure> {
    let answer = line.call(STATUS_PATH, Ask::default().nothing())?;
    answer::standing(answer).map_err(|Malformed| malformed())
}

fn open(endpoint: SocketAddr) -> Result<Line, Failure> {
    Line::open(endpoint, PATIENCE)
}

fn malformed() -> Failure {
    Failure::Wrong("the answer is malformed".to_owned())
}

const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use metastore_proto::etcdserverpb::{RangeResponse, ResponseHeader, StatusResponse};
    use prost::Message as _;

    use super::{agreed_leader, behind};
    use crate::imitation::{Say, serve};

    /// A member that says of itself what it is told to, whatever is asked.
    fn member(member_id: u64, leader: u64, applied: u64, revision: i64) -> SocketAddr {
        let header = Some(ResponseHeader {
            member_id,
            revision,
            ..ResponseHeader::default()
        });
        let range = RangeResponse {
            header,
            ..RangeResponse::default()
        };
        let status = StatusResponse {
            header,
            leader,
            raft_applied_index: applied,
            ..StatusResponse::default()
        };
        serve(move |call| {
            let message = match call.path {
                "/etcdserverpb.Maintenance/Status" => status.encode_to_vec(),
                _ => range.encode_to_vec(),
            };
            vec![Say {
                place: call.place,
                message,
                last: true,
            }]
        })
    }

    #[test]
    fn the_leader_is_the_member_that_all_name() {
        let members = [1, 2, 3].map(|id| member(id, 2, 10, 5));
        assert_eq!(agreed_leader(&members), Ok(1));
    }

    #[test]
    fn there_is_no_leader_while_one_member_knows_none_or_all_name_a_stranger() {
        for leaders in [[2, 2, 0], [2, 3, 2], [0, 0, 0], [9, 9, 9]] {
            let [first, second, third] = leaders;
            let members = [(1, first), (2, second), (3, third)];
            let members = members.map(|(id, leader)| member(id, leader, 10, 5));
            assert!(agreed_leader(&members).is_err(), "{leaders:?}");
        }
    }

    #[test]
    fn a_member_is_behind_by_its_index_or_by_its_data() {
        let leader = member(1, 1, 10, 5);
        for (applied, revision, in_sync) in [
            (10, 5, true),
            (11, 6, true),
            (9, 5, false),
            // It says that it has applied everything, and its data says otherwise.
            (10, 4, false),
        ] {
            let lag = behind(member(2, 1, applied, revision), leader).expect("both answer");
            assert_eq!(lag.is_none(), in_sync, "{lag:?}");
        }
    }
}
