//! The naive hub, fact by fact.

use metastore_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, WatchCreateRequest};
use metastore_proto::mvccpb::Event;

use super::{Due, WatchModel};
use crate::mvcc::{Changes, Store};

/// A store and the model told of all its changes.
struct World {
    store: Store,
    model: WatchModel,
}

impl World {
    fn new() -> Self {
        World {
            store: Store::new(),
            model: WatchModel::new(),
        }
    }

    fn put(&mut self, key: &str) {
        let mut changes = Changes::new();
        let put = PutRequest {
            key: key.into(),
            ..PutRequest::default()
        };
        self.store.put(&put, &mut changes).expect("a plain put");
        self.model.apply(changes.as_slice());
    }

    fn delete(&mut self, key: &str, range_end: &str) {
        let mut changes = Changes::new();
        let delete = DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: false,
        };
        self.store
            .delete_range(&delete, &mut changes)
            .expect("never refused");
        self.model.apply(changes.as_slice());
    }
}

fn watch(key: &str, range_end: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision,
        ..WatchCreateRequest::default()
    }
}

/// Events as `put a@2`, with the version of the previous record where there is one.
fn told(events: &[Event]) -> Vec<String> {
    let told = |event: &Event| {
        let verb = if event.r#type == 0 { "put" } else { "delete" };
        let kv = event.kv.as_ref().expect("set");
        let key = String::from_utf8_lossy(&kv.key);
        let before = event.prev_kv.as_ref();
        let before = before.map_or(String::new(), |kv| format!(" after {}", kv.version));
        format!("{verb} {key}@{}{before}", kv.mod_revision)
    };
    events.iter().map(told).collect()
}

/// Revisions 2 to 5: a, b, a again, both deleted.
fn four_revisions() -> World {
    let mut world = World::new();
    world.put("a");
    world.put("b");
    world.put("a");
    world.delete("a", "z");
    world
}

#[test]
fn a_watcher_receives_what_lies_in_its_range_from_its_start_on() {
    let mut world = four_revisions();
    let mut all = |create| {
        let created = world.model.create(1, &create).expect("accepted");
        told(&world.model.must_receive(created.handle))
    };
    assert_eq!(
        all(watch("", "\0", 1)),
        ["put a@2", "put b@3", "put a@4", "delete a@5", "delete b@5"]
    );
    assert_eq!(all(watch("a", "", 3)), ["put a@4", "delete a@5"]);
    assert_eq!(all(watch("b", "\0", 1)), ["put b@3", "delete b@5"]);
    assert_eq!(all(watch("", "", 1)), [""; 0], "the empty key is one key");
    assert_eq!(all(watch("a", "z", 0)), [""; 0], "from now on");
    let no_puts = WatchCreateRequest {
        filters: vec![0],
        ..watch("a", "b", 1)
    };
    assert_eq!(all(no_puts), ["delete a@5"]);
    let with_previous = WatchCreateRequest {
        prev_kv: true,
        filters: vec![7],
        ..watch("a", "b", 1)
    };
    assert_eq!(
        all(with_previous),
        ["put a@2", "put a@4 after 1", "delete a@5 after 2"]
    );
}

#[test]
fn a_start_in_the_future_hears_nothing_before_it() {
    let mut world = four_revisions();
    let created = world.model.create(1, &watch("a", "z", 7));
    let handle = created.expect("accepted").handle;
    world.put("a");
    assert_eq!(world.model.progress(1), Due::Never);
    assert_eq!(told(&world.model.must_receive(handle)), [""; 0]);
    world.put("b");
    assert_eq!(told(&world.model.must_receive(handle)), ["put b@7"]);
}

#[test]
fn ids_are_chosen_by_counting_past_those_in_use() {
    let mut model = WatchModel::new();
    let create = |model: &mut WatchModel, stream, watch_id| {
        let create = WatchCreateRequest {
            watch_id,
            ..watch("a", "", 0)
        };
        model
            .create(stream, &create)
            .map(|created| created.watch_id)
    };
    assert_eq!(create(&mut model, 1, 0), Ok(0));
    assert_eq!(create(&mut model, 1, 1), Ok(1));
    assert_eq!(create(&mut model, 1, 0), Ok(2));
    assert_eq!(model.cancel(1, 0), Some(0));
    assert_eq!(model.cancel(1, 0), None, "it is gone");
    assert_eq!(
        create(&mut model, 1, 0),
        Ok(3),
        "the counter never goes back"
    );
    let duplicate = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(create(&mut model, 1, 1), Err(vec![duplicate]));
    assert_eq!(create(&mut model, 2, 1), Ok(1), "ids are per stream");
    assert_eq!(model.cancel(1, 1), Some(1));
    assert_eq!(
        create(&mut model, 1, 1),
        Ok(1),
        "a freed id can be asked for"
    );
}

#[test]
fn an_empty_range_and_a_negative_start_are_refused() {
    let mut model = WatchModel::new();
    let empty = "mvcc: watcher range is empty";
    let negative = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(model.create(1, &watch("b", "b", 0)), Err(vec![empty]));
    assert_eq!(model.create(1, &watch("b", "a", 0)), Err(vec![empty]));
    assert_eq!(model.create(1, &watch("b", "", -1)), Err(vec![negative]));
    assert_eq!(
        model.create(1, &watch("b", "a", -1)),
        Err(vec![empty, negative]),
        "either may be told"
    );
    let first = model.create(1, &watch("b", "\0", 0)).expect("accepted");
    assert_eq!(first.watch_id, 0, "refusals take no id");
    assert_eq!(first.revision, 1);
}

#[test]
fn compaction_cancels_only_those_that_may_lag() {
    let mut world = four_revisions();
    let model = &mut world.model;
    let slow = model
        .create(1, &watch("a", "z", 2))
        .expect("accepted")
        .handle;
    let caught_up = model
        .create(1, &watch("a", "z", 2))
        .expect("accepted")
        .handle;
    let at_boundary = model
        .create(1, &watch("a", "z", 4))
        .expect("accepted")
        .handle;
    model.delivered(slow, 2);
    model.delivered(caught_up, 5);
    model.compact(4);
    assert_eq!(model.compacted(slow), Due::Perhaps(vec![4]));
    assert_eq!(model.compacted(caught_up), Due::Never);
    assert_eq!(model.compacted(at_boundary), Due::Never);
    let late = model
        .create(1, &watch("a", "z", 3))
        .expect("accepted")
        .handle;
    assert_eq!(model.compacted(late), Due::Certainly(vec![4]));
    assert_eq!(model.must_receive(late), []);
    assert_eq!(model.progress(1), Due::Never, "one is too late");

    assert!(model.cancel_compacted(caught_up, 4).is_err());
    assert!(model.cancel_compacted(slow, 3).is_err(), "no such boundary");
    model.cancel_compacted(slow, 4).expect("it lagged");
    model.cancel_compacted(late, 4).expect("it came too late");
    assert_eq!(model.compacted(slow), Due::Never, "it is cancelled already");
    let farewell = model.cancel(1, 0);
    assert_eq!(
        farewell,
        Some(slow),
        "it keeps its id until it is cancelled"
    );
    assert_eq!(model.cancel(1, 0), None, "its id is free");
    model.delivered(at_boundary, 5);
    assert_eq!(model.progress(1), Due::Certainly(5));
    world.put("c");
    assert_eq!(
        told(&world.model.must_receive(slow)).len(),
        5,
        "until its end"
    );
}

#[test]
fn progress_is_due_when_every_watcher_of_the_stream_has_everything() {
    let mut world = four_revisions();
    assert_eq!(world.model.progress(1), Due::Never, "no watcher");
    let old = world
        .model
        .create(1, &watch("a", "z", 2))
        .expect("accepted");
    world
        .model
        .create(1, &watch("a", "z", 0))
        .expect("accepted");
    assert_eq!(world.model.progress(1), Due::Perhaps(5));
    world.model.delivered(old.handle, 5);
    assert_eq!(world.model.progress(1), Due::Certainly(5));
    assert_eq!(world.model.progress(2), Due::Never);
}

#[test]
fn the_check_wants_every_event_and_no_other() {
    let mut world = four_revisions();
    let create = WatchCreateRequest {
        prev_kv: true,
        ..watch("a", "z", 2)
    };
    let handle = world.model.create(1, &create).expect("accepted").handle;
    let events = world.model.must_receive(handle);
    let check = |model: &WatchModel, events: &[Event], drained| {
        model.check(handle, events, drained).is_ok()
    };
    assert!(check(&world.model, &events, true));
    assert!(
        !check(&world.model, &events[..3], true),
        "drained, yet not all"
    );
    assert!(check(&world.model, &events[..3], false));
    assert!(!check(&world.model, &events[..4], false), "half a revision");
    assert!(!check(&world.model, &events[1..], true), "a gap");
    let once_more = [&events[..], &events[4..]].concat();
    assert!(!check(&world.model, &once_more, true), "one too many");
    let mut bare = events.clone();
    bare[2].prev_kv = None;
    assert!(
        !check(&world.model, &bare, true),
        "the previous record is owed"
    );
    world.model.compact(4);
    assert!(check(&world.model, &bare, true), "it may be compacted");

    world.model.delivered(handle, 3);
    assert!(world.model.cancel(1, 0).is_some());
    world.put("c");
    assert!(check(&world.model, &events, true), "queued before the end");
    assert!(check(&world.model, &events[..2], true));
    assert!(!check(&world.model, &events[..1], true), "3 was delivered");
}
