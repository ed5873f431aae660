//! Draws what is said on watch streams: bursts of requests, with writes between the bursts.

use metastore_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    watch_request::RequestUnion,
};

use super::generator::Generator;
use crate::cluster::random::Random;

/// Something done with one of a few streams, which are opened when they are first spoken on.
#[derive(Clone, Debug)]
pub(crate) enum WatchStep {
    Say {
        stream: usize,
        request: WatchRequest,
        /// Does not wait for what was delivered so far to arrive before it cancels.
        abruptly: bool,
    },
    HalfClose {
        stream: usize,
    },
    Close {
        stream: usize,
    },
}

impl WatchStep {
    /// With the stream: a difference is mostly about one.
    pub(crate) fn kind(&self) -> &'static str {
        let (Self::Say { stream, .. } | Self::HalfClose { stream } | Self::Close { stream }) = self;
        ["watch on 0", "watch on 1", "watch on 2"][*stream]
    }
}

/// When the next watch step is due.
#[derive(Debug, Default)]
pub(crate) struct Rhythm {
    steps: u64,
    pause: u64,
}

impl Rhythm {
    pub(crate) fn is_due(&mut self, random: &mut Random) -> bool {
        if self.steps == 0 && self.pause == 0 {
            self.steps = 3 + random.below(10);
            self.pause = 30 + random.below(150);
        }
        if self.steps > 0 {
            self.steps -= 1;
            return true;
        }
        self.pause -= 1;
        false
    }
}

pub(crate) fn watch_step(generator: &mut Generator) -> WatchStep {
    let stream = generator.random.index(STREAMS);
    let union = match generator.random.below(100) {
        0..=4 => return WatchStep::Close { stream },
        5..=6 => return WatchStep::HalfClose { stream },
        7 => None,
        8..=15 => Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
        16..=31 => {
            let abruptly = generator.random.percent(30);
            return cancellation(generator, stream, abruptly);
        }
        _ => Some(RequestUnion::CreateRequest(creation(generator))),
    };
    WatchStep::Say {
        stream,
        request: WatchRequest {
            request_union: union,
        },
        abruptly: false,
    }
}

/// Abruptly only where the ID is never chosen again: etcd 3.5 may give events of an old watcher to a new
/// one with its ID.
fn cancellation(generator: &mut Generator, stream: usize, abruptly: bool) -> WatchStep {
    let watch_id = if abruptly || generator.random.percent(50) {
        3 + generator.random.between(0, 6)
    } else {
        *generator
            .random
            .pick(&[0, 1, 2, 100, -7, i64::MAX, 404, -1])
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })),
    };
    WatchStep::Say {
        stream,
        request,
        abruptly,
    }
}

fn creation(generator: &mut Generator) -> WatchCreateRequest {
    let mut key = generator.key();
    let mut range_end = generator.range_end(&key);
    if generator.random.percent(25) {
        key = generator.random.pick(&[&[][..], &[0]]).to_vec();
        range_end = vec![0];
    }
    let mut request = WatchCreateRequest {
        key,
        range_end,
        start_revision: start(generator),
        prev_kv: generator.random.percent(50),
        progress_notify: generator.random.percent(20),
        fragment: generator.random.percent(30),
        ..WatchCreateRequest::default()
    };
    if generator.random.percent(35) {
        let filters: &[&[i32]] = &[&[0], &[1], &[0, 1], &[1, 1], &[7], &[-1, 0]];
        request.filters = generator.random.pick(filters).to_vec();
    }
    if generator.random.percent(35) {
        request.watch_id = *generator.random.pick(&[1, 2, 100, -7, i64::MAX]);
    }
    if request.start_revision < 0 {
        request.watch_id = ID_WITH_A_NEGATIVE_START;
    }
    request
}

/// etcd 3.5 is not even equal to itself at the boundary of compaction, nor with a negative start.
fn start(generator: &mut Generator) -> i64 {
    let drawn = any_start(generator);
    let at_the_boundary = drawn == generator.compacted && drawn > 0;
    if at_the_boundary && !generator.traits.what_only_the_contract_settles {
        return drawn + 1;
    }
    drawn
}

fn any_start(generator: &mut Generator) -> i64 {
    let (newest, compacted) = (generator.revision, generator.compacted);
    match generator.random.below(100) {
        40..=61 => generator.random.between(compacted.max(1), newest),
        62..=67 => compacted.max(0),
        32..=39 | 68..=75 => (compacted - generator.random.between(1, 3)).max(0),
        76..=81 => newest,
        82..=86 => newest + 1,
        87..=94 => newest + generator.random.between(2, 30),
        95..=96 => 1,
        97 => i64::MAX,
        98..=99 if generator.traits.what_only_the_contract_settles => {
            *generator.random.pick(&[-1, -2, i64::MIN])
        }
        _ => 0,
    }
}

/// How many streams a run has.
pub(crate) const STREAMS: usize = 3;
/// Used for nothing else, so that the watcher which etcd 3.5 creates can be cancelled at once.
pub(crate) const ID_WITH_A_NEGATIVE_START: i64 = 4242;
