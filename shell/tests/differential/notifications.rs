//! Progress that is notified by itself, every tenth of a second: who gets it, and what it says.

use std::{collections::BTreeMap, time::Duration};

use metastore_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchResponse};
use tokio::time::Instant;

use super::{
    comparison::keep_only_whether_ids_are_filled,
    transcript::{Creation, Transcript},
};
use crate::cluster::{
    connection::Connection,
    operation::{Answer, Operation},
    watch_stream::{WatchStream, create},
};

/// By the id of the watcher they are about: the notifications, without the ids of the cluster.
pub(crate) type Notifications = BTreeMap<i64, Vec<WatchResponse>>;

/// Watches on one stream a key that is written, keys that are not and a revision that never comes, with and
/// without notifications. Writes for a while, then is still until both watchers that can be notified were.
pub(crate) async fn be_notified(mut server: Connection, contract: bool) -> Notifications {
    let creations = creations();
    let first = create(creations[0].request.clone());
    let mut stream = WatchStream::open(&mut server, first)
        .await
        .expect("a stream");
    let mut transcript = Transcript::new(contract);
    for creation in creations {
        if creation.request.watch_id != IDLE {
            stream.say(create(creation.request.clone()));
        }
        transcript.ask(creation);
    }
    let mut heard = Notifications::new();
    let mut newest = 1;
    let deadline = Instant::now() + LIMIT;
    while newest < LAST_REVISION || !are_notified_of(&heard, newest) {
        assert!(Instant::now() < deadline, "revision {newest}, {heard:?}");
        if newest < LAST_REVISION {
            newest = put_busy(&mut server).await;
        }
        let until = Instant::now() + Duration::from_millis(20);
        while let Some(mut response) = stream.next(until).await.expect("the stream goes on") {
            let kept = transcript.take(response.clone(), newest);
            kept.expect("every promise is kept");
            if !response.created && !response.canceled && response.events.is_empty() {
                keep_only_whether_ids_are_filled(response.header.as_mut().expect("a header"));
                heard.entry(response.watch_id).or_default().push(response);
            }
        }
    }
    heard
}

fn are_notified_of(heard: &Notifications, newest: i64) -> bool {
    [IDLE, BUSY].iter().all(|id| {
        let last = heard.get(id).and_then(|responses| responses.last());
        let header = last.and_then(|last| last.header.as_ref());
        header.is_some_and(|header| header.revision == newest)
    })
}

fn creations() -> [Creation; 4] {
    let creation = |watch_id, key: &str, start_revision, progress_notify| Creation {
        request: WatchCreateRequest {
            key: key.into(),
            watch_id,
            start_revision,
            progress_notify,
            ..WatchCreateRequest::default()
        },
        newest: 1,
        compacted: -1,
        kept_at_start: Vec::new(),
    };
    [
        creation(IDLE, "idle", 0, true),
        creation(BUSY, "busy", 0, true),
        creation(UNASKED, "idle", 0, false),
        creation(FUTURE, "idle", LAST_REVISION + 1, true),
    ]
}

async fn put_busy(server: &mut Connection) -> i64 {
    let put = Operation::Put(PutRequest {
        key: b"busy".to_vec(),
        ..PutRequest::default()
    });
    let answer = put.send(server).await;
    assert!(matches!(answer, Answer::Put(_)), "{answer:?}");
    answer.revision().expect("a header")
}

pub(crate) const IDLE: i64 = 11;
pub(crate) const BUSY: i64 = 12;
pub(crate) const UNASKED: i64 = 13;
pub(crate) const FUTURE: i64 = 14;
const LAST_REVISION: i64 = 20;
const LIMIT: Duration = Duration::from_secs(15);
