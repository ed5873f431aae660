//! The watch streams of both servers, opened and spoken on alike, and when they have delivered everything.

use std::{collections::BTreeMap, time::Duration};

use metastore_proto::{
    etcdserverpb::{
        WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
    mvccpb::Event,
};
use tokio::time::Instant;

use super::{
    comparison::Difference,
    known_differences::KnownWatchDifference,
    transcript::{
        Creation, Transcript, Watcher, is_delete, kept_by_a_compaction_at, key_and_revision,
    },
    watch_comparison::watch_difference,
    watch_generator::{ID_WITH_A_NEGATIVE_START, STREAMS, WatchStep},
};
use crate::cluster::{
    connection::Connection,
    operation::{Answer, Operation},
    watch_stream::{WatchStream, create},
};

pub(crate) struct Watchers {
    streams: [Option<[Side; 2]>; STREAMS],
    /// Hears of every event of the reference, so that it is known what each watcher must deliver.
    witness: WatchStream,
    /// All events from the boundary of compaction on.
    history: Vec<Event>,
    newest: i64,
    compacted: i64,
    /// A watcher was started in the past, and may not have been led up to the present yet, even if
    /// there was nothing to deliver.
    some_may_be_behind: bool,
    /// Whether the subject follows the contract; the reference never does in everything.
    contract: bool,
    known: &'static [KnownWatchDifference],
    used: Vec<u64>,
    /// What happened, and how often.
    pub(crate) reached: BTreeMap<String, u64>,
}

/// One stream of one server.
struct Side {
    name: &'static str,
    stream: WatchStream,
    transcript: Transcript,
}

/// The subject's and the reference's, in this order wherever both stand together.
pub(crate) type Both<'a> = [&'a mut Connection; 2];

impl Watchers {
    /// To be called before the first write.
    pub(crate) async fn start(
        reference: &mut Connection,
        contract: bool,
        known: &'static [KnownWatchDifference],
    ) -> Self {
        let everything = WatchCreateRequest {
            key: vec![0],
            range_end: vec![0],
            start_revision: 2,
            ..WatchCreateRequest::default()
        };
        let witness = WatchStream::open(reference, create(everything)).await;
        Self {
            streams: [const { None }; STREAMS],
            witness: witness.expect("etcd can be watched"),
            history: Vec::new(),
            newest: 1,
            compacted: -1,
            some_may_be_behind: false,
            contract,
            known,
            used: vec![0; known.len()],
            reached: BTreeMap::new(),
        }
    }

    /// What is known to differ, and how often that made two watchers equal.
    pub(crate) fn known_and_used(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let used = self.used.iter().copied();
        self.known.iter().map(|known| known.reason).zip(used)
    }

    /// Learns from an answer of the reference.
    pub(crate) fn observe(&mut self, operation: &Operation, answer: &Answer) {
        self.newest = self.newest.max(answer.revision().unwrap_or(0));
        if let (Operation::Compact(request), Answer::Compact(_)) = (operation, answer) {
            self.compacted = request.revision;
            let gone = |event: &Event| key_and_revision(event).1 < self.compacted;
            let kept = self.history.partition_point(gone);
            self.history.drain(..kept);
        }
    }

    /// Waits before a compaction that will be carried out: what is still on its way then may be lost, or
    /// lose its earlier record, on one server and not on the other.
    pub(crate) async fn prepare_for(
        &mut self,
        operation: &Operation,
        mut servers: Both<'_>,
    ) -> Result<(), Difference> {
        if let Operation::Compact(request) = operation
            && request.revision > self.compacted
            && request.revision <= self.newest
            && self.streams.iter().any(Option::is_some)
        {
            self.lead_all_up_to_the_present(&mut servers).await?;
            self.settle().await?;
        }
        Ok(())
    }

    pub(crate) async fn take(
        &mut self,
        step: &WatchStep,
        servers: Both<'_>,
    ) -> Result<(), Difference> {
        match step {
            WatchStep::Say {
                stream,
                request,
                abruptly,
            } => self.say(*stream, request, *abruptly, servers).await,
            WatchStep::HalfClose { stream } => {
                for side in self.streams[*stream].iter_mut().flatten() {
                    side.stream.half_close();
                }
                Ok(())
            }
            WatchStep::Close { stream } => {
                self.settle().await?;
                self.streams[*stream] = None;
                Ok(())
            }
        }
    }

    async fn say(
        &mut self,
        index: usize,
        request: &WatchRequest,
        abruptly: bool,
        servers: Both<'_>,
    ) -> Result<(), Difference> {
        if matches!(request.request_union, Some(RequestUnion::CancelRequest(_))) && !abruptly {
            self.settle().await?;
        }
        let newest = self.newest;
        self.hear_witness().await?;
        if self.streams[index].is_none() {
            self.streams[index] = Some(self.open(servers).await?);
        }
        let creation = self.creation_of(request);
        if let Some(creation) = &creation {
            self.some_may_be_behind |= creation.start() <= newest;
        }
        let fence = self.fence();
        for side in self.streams[index].iter_mut().flatten() {
            if side.stream.is_half_closed() {
                continue;
            }
            side.say(request, creation.as_ref(), abruptly);
            if creation
                .as_ref()
                .is_none_or(|it| it.request.start_revision < 0)
            {
                side.say(&create(fence.request.clone()), Some(&fence), false);
            }
            side.hear_answers(newest).await?;
        }
        Ok(())
    }

    fn creation_of(&self, request: &WatchRequest) -> Option<Creation> {
        let Some(RequestUnion::CreateRequest(request)) = &request.request_union else {
            return None;
        };
        let mut creation = Creation {
            request: request.clone(),
            newest: self.newest,
            compacted: self.compacted,
            kept_at_start: Vec::new(),
        };
        if creation.starts_at_the_boundary() {
            creation.kept_at_start = kept_by_a_compaction_at(&self.history, self.compacted);
            let mut kept = std::mem::take(&mut creation.kept_at_start);
            kept.retain(|event| creation.wants(event));
            creation.kept_at_start = kept;
        }
        Some(creation)
    }

    /// A request that is refused at once and changes nothing: its answer shows that all before it were read.
    fn fence(&self) -> Creation {
        self.creation_of(&create(inverted())).expect("a creation")
    }

    async fn open(&self, [subject, reference]: Both<'_>) -> Result<[Side; 2], Difference> {
        let fence = self.fence();
        Ok([
            Side::open("the subject", subject, self.contract, &fence, self.newest).await?,
            Side::open("etcd", reference, false, &fence, self.newest).await?,
        ])
    }

    /// Waits until everything up to now is delivered, and compares it.
    pub(crate) async fn settle(&mut self) -> Result<(), Difference> {
        self.hear_witness().await?;
        for side in self.streams.iter_mut().flatten().flatten() {
            side.hear_all(&self.history, self.newest).await?;
        }
        for [subject, reference] in self.streams.iter_mut().flatten() {
            subject.hear_progress(self.newest).await?;
            for side in [&mut *subject, &mut *reference] {
                side.hear_what_is_there(self.newest).await?;
            }
            for (number, expected) in &reference.transcript.watchers {
                let answered = subject.transcript.watchers.get(number);
                let answered = answered.expect("both have answered every request");
                count(expected, &mut self.reached);
                if let Some(difference) =
                    watch_difference(answered, expected, self.known, &mut self.used)
                {
                    return Err(difference.about(&format!("{:?}", expected.creation)));
                }
            }
            for side in [subject, reference] {
                side.transcript.settle(self.newest);
            }
        }
        Ok(())
    }

    async fn hear_witness(&mut self) -> Result<(), Difference> {
        let deadline = Instant::now() + DELIVERY_LIMIT;
        let last = |history: &[Event]| history.last().map_or(1, |it| key_and_revision(it).1);
        while last(&self.history) < self.newest {
            let heard = self.witness.next(deadline).await;
            match heard {
                Ok(Some(response)) => self.history.extend(response.events),
                other => {
                    return Err(broken("etcd", &format!("the witness heard {other:?}")));
                }
            }
        }
        Ok(())
    }

    /// A watcher that was just started at the newest revision has heard of it: then the server has gone
    /// through all that were behind, as often as its batches of revisions may need.
    async fn lead_all_up_to_the_present(
        &mut self,
        servers: &mut Both<'_>,
    ) -> Result<(), Difference> {
        if !std::mem::take(&mut self.some_may_be_behind) || self.newest <= self.compacted.max(1) {
            return Ok(());
        }
        let revisions = self.newest - self.compacted.max(1);
        for _ in 0..=revisions / REVISIONS_OF_A_BATCH {
            for (name, server) in ["the subject", "etcd"].into_iter().zip(&mut *servers) {
                let newest = WatchCreateRequest {
                    key: vec![0],
                    range_end: vec![0],
                    start_revision: self.newest,
                    ..WatchCreateRequest::default()
                };
                let probe = WatchStream::open(server, create(newest)).await;
                let mut probe = probe.map_err(|status| broken(name, &format!("{status:?}")))?;
                let deadline = Instant::now() + DELIVERY_LIMIT;
                loop {
                    match probe.next(deadline).await {
                        Ok(Some(response)) if response.events.is_empty() => {}
                        Ok(Some(_)) => break,
                        other => return Err(broken(name, &format!("a probe heard {other:?}"))),
                    }
                }
            }
        }
        Ok(())
    }

    /// Brings the reference up to the present, and with `settled` the subject too; otherwise takes only what
    /// the subject has delivered by now.
    pub(crate) async fn before_restart(&mut self, settled: bool) -> Result<(), Difference> {
        if settled {
            return self.settle().await;
        }
        self.hear_witness().await?;
        for [subject, reference] in self.streams.iter_mut().flatten() {
            subject.hear_what_is_there(self.newest).await?;
            reference.hear_all(&self.history, self.newest).await?;
        }
        Ok(())
    }

    /// Opens all streams anew, on both servers, with every watcher going on where it stopped.
    pub(crate) async fn after_restart(
        &mut self,
        [subject, reference]: Both<'_>,
    ) -> Result<(), Difference> {
        for index in 0..STREAMS {
            let Some(before) = self.streams[index].take() else {
                continue;
            };
            let mut sides = self.open([&mut *subject, &mut *reference]).await?;
            let [on_subject, on_reference] = before.map(|side| side.transcript.watchers);
            let mut going_on: Vec<_> = on_subject
                .into_iter()
                .filter_map(|(number, watcher)| Some([watcher, on_reference.get(&number)?.clone()]))
                .filter(|both| {
                    both.iter().all(|it| it.is_alive()) && !both[0].creation.starts_too_early()
                })
                .collect();
            // Nobody can ask for id 0; it is given to the first.
            going_on.sort_by_key(|[watcher, _]| watcher.created.watch_id != 0);
            for both in going_on {
                for (side, watcher) in sides.iter_mut().zip(both) {
                    let request = create(watcher.resumption());
                    let creation = self.creation_of(&request);
                    side.say(&request, creation.as_ref(), false);
                    side.hear_answers(self.newest).await?;
                    if let Some(resumed) = side.transcript.by_id_mut(watcher.created.watch_id) {
                        resumed.continue_from(watcher);
                    }
                }
            }
            self.streams[index] = Some(sides);
        }
        self.some_may_be_behind = self.streams.iter().any(Option::is_some);
        Ok(())
    }

    /// Compares all that is left, and waits a little for what should not come.
    pub(crate) async fn finish(&mut self, mut servers: Both<'_>) -> Result<(), Difference> {
        self.lead_all_up_to_the_present(&mut servers).await?;
        self.settle().await?;
        tokio::time::sleep(SILENCE).await;
        self.settle().await
    }
}

impl Side {
    async fn open(
        name: &'static str,
        server: &mut Connection,
        contract: bool,
        fence: &Creation,
        newest: i64,
    ) -> Result<Self, Difference> {
        let stream = WatchStream::open(server, create(fence.request.clone())).await;
        let mut side = Self {
            name,
            stream: stream.map_err(|status| broken(name, &format!("{status:?}")))?,
            transcript: Transcript::new(contract),
        };
        side.transcript.ask(fence.clone());
        side.hear_answers(newest).await?;
        Ok(side)
    }

    /// Sends a request, and notes what it changes. `creation` is what it asks for, if it asks for a watcher.
    fn say(&mut self, request: &WatchRequest, creation: Option<&Creation>, abruptly: bool) {
        self.stream.say(request.clone());
        match &request.request_union {
            Some(RequestUnion::CreateRequest(_)) => {
                let creation = creation.expect("the creation that is asked for");
                self.transcript.ask(creation.clone());
                if creation.request.start_revision < 0 {
                    self.stream.say(cancellation(ID_WITH_A_NEGATIVE_START));
                }
            }
            Some(RequestUnion::CancelRequest(request)) => {
                if let Some(watcher) = self.transcript.by_id_mut(request.watch_id) {
                    watcher.cut_short |= abruptly;
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => self.transcript.progress_is_asked_for = true,
            None => {}
        }
    }

    fn take(&mut self, response: WatchResponse, newest: i64) -> Result<(), Difference> {
        let shown = format!("{response:?}");
        self.transcript.take(response, newest).map_err(|promise| {
            let shown: String = shown.chars().take(CHARACTERS_SHOWN).collect();
            broken(self.name, &format!("{promise}, in {shown}"))
        })
    }

    async fn hear_answers(&mut self, newest: i64) -> Result<(), Difference> {
        let deadline = Instant::now() + DELIVERY_LIMIT;
        while !self.transcript.has_answered_all() {
            match self.stream.next(deadline).await {
                Ok(Some(response)) => self.take(response, newest)?,
                other => return Err(broken(self.name, &format!("no answer but {other:?}"))),
            }
        }
        Ok(())
    }

    async fn hear_all(&mut self, history: &[Event], newest: i64) -> Result<(), Difference> {
        let deadline = Instant::now() + DELIVERY_LIMIT;
        let contract = self.transcript.is_held_to_the_contract();
        loop {
            let mut watchers = self.transcript.watchers.values();
            let Some(lacking) = watchers.find(|it| it.lacks(history, contract)) else {
                return Ok(());
            };
            let lacking = format!(
                "up to revision {newest} something is missing after {} from {:?}",
                lacking.delivered, lacking.creation
            );
            match self.stream.next(deadline).await {
                Ok(Some(response)) => self.take(response, newest)?,
                Ok(None) => return Err(broken(self.name, &lacking)),
                Err(status) => {
                    return Err(broken(
                        self.name,
                        &format!("{lacking}; ended with {status:?}"),
                    ));
                }
            }
        }
    }

    async fn hear_what_is_there(&mut self, newest: i64) -> Result<(), Difference> {
        while let Some(heard) = self.stream.next_at_once().await {
            match heard {
                Ok(response) => self.take(response, newest)?,
                Err(status) => return Err(broken(self.name, &format!("ended with {status:?}"))),
            }
        }
        Ok(())
    }

    /// Where progress was asked for, the answer must come by now, if it is asked for often enough.
    async fn hear_progress(&mut self, newest: i64) -> Result<(), Difference> {
        let asked = std::mem::take(&mut self.transcript.progress_is_asked_for);
        if !asked || self.stream.is_half_closed() || !self.transcript.owes_progress(newest) {
            return Ok(());
        }
        let give_up = Instant::now() + DELIVERY_LIMIT;
        while self.transcript.progress < newest {
            if Instant::now() > give_up {
                return Err(broken(
                    self.name,
                    &format!("no progress to revision {newest}"),
                ));
            }
            self.stream.say(WatchRequest {
                request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
            });
            match self.stream.next(Instant::now() + RETRY).await {
                Ok(Some(response)) => self.take(response, newest)?,
                Ok(None) => {}
                Err(status) => return Err(broken(self.name, &format!("ended with {status:?}"))),
            }
        }
        Ok(())
    }
}

fn cancellation(watch_id: i64) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })),
    }
}

/// A promise that one server broke by itself, whatever the other did.
fn broken(name: &str, what: &str) -> Difference {
    Difference {
        expected: "a watch that keeps its promises".to_owned(),
        answered: format!("{name}: {what}"),
    }
}

fn inverted() -> WatchCreateRequest {
    WatchCreateRequest {
        key: b"fence".to_vec(),
        range_end: b"f".to_vec(),
        ..WatchCreateRequest::default()
    }
}

fn count(watcher: &Watcher, reached: &mut BTreeMap<String, u64>) {
    let mut add = |what: String| *reached.entry(what).or_insert(0) += 1;
    if watcher.settled == 0 && watcher.creation.request != inverted() {
        if watcher.created.canceled {
            add(format!("watch refused {}", watcher.created.cancel_reason));
        } else {
            add("watch created".to_owned());
        }
    }
    for end in &watcher.ends {
        let by_server = end.compact_revision != 0;
        add(format!(
            "watch {}",
            if by_server { "compacted" } else { "cancelled" }
        ));
    }
    for event in &watcher.events {
        let kind = if is_delete(event) { "delete" } else { "put" };
        let before = if event.prev_kv.is_some() {
            " with its earlier record"
        } else {
            ""
        };
        add(format!("watched {kind}{before}"));
    }
}

const DELIVERY_LIMIT: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(20);
const SILENCE: Duration = Duration::from_millis(300);
/// Of how many revisions a server may bundle the events before it lets others have a turn.
const REVISIONS_OF_A_BATCH: i64 = 1000;
const CHARACTERS_SHOWN: usize = 2000;
