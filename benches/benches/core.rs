//! The multi-version store without anything around it: time per verb, and memory per key.
//!
//! `cargo x bench core` times; `cargo x bench core -- memory <sequential|random>` fills a million keys of 16 + 256 bytes
//! in a process of its own and tells what they cost.
//!
//! Sketch of a key that was put once, in blocks of mimalloc: record 320 (16 reference counts, 32 header, 16 key, 256
//! value), leaf entry 16 of a leaf filled to 12..16 of 16, i.e. 16..22, its share of the leaf's own block and of the
//! map of leaves 9, event 16 and its share of the log's map 2. Together 363..369 asked of the allocator, which is what
//! it measures; resident were 423..438.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use metastore_core::mvcc::{Changes, Store, Sweep};
use metastore_core::snapshot::{Decoder, Encoder};
use metastore_proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::{
    CompactionRequest, Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// mimalloc, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Bytes asked for and not given back.
static LIVE: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on to mimalloc unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { mimalloc::MiMalloc.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(size as u64, Ordering::Relaxed);
        LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { mimalloc::MiMalloc.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keys of 16 bytes in one of two orders.
#[derive(Clone, Copy, PartialEq)]
enum Arrival {
    Sequential,
    Random,
}

fn key(number: u64, arrival: Arrival) -> Vec<u8> {
    // An odd multiplier visits every number once, far from order.
    let place = if arrival == Arrival::Random {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    } else {
        number
    };
    format!("{place:016x}").into_bytes()
}

fn put(number: u64, arrival: Arrival) -> PutRequest {
    let mut value = vec![0; VALUE_BYTES];
    value[..8].copy_from_slice(&number.to_le_bytes());
    PutRequest {
        key: key(number, arrival),
        value,
        ..PutRequest::default()
    }
}

/// A store of `keys` keys, filled as a member would: a view is published after every few puts.
fn filled(keys: u64, arrival: Arrival) -> Store {
    let mut store = Store::new();
    let mut changes = Changes::new();
    let mut published = store.view();
    for number in 0..keys {
        store
            .put(&put(number, arrival), &mut changes)
            .expect("a plain put");
        if number % PUTS_PER_VIEW == 0 {
            changes.clear();
            published = store.view();
        }
    }
    drop(published);
    store
}

/// One record of 320 bytes; without a view in between, nothing else but now and then a leaf or a block of the log.
fn puts(c: &mut Criterion) {
    let mut group = c.benchmark_group("put");
    group.throughput(Throughput::Elements(1));
    for (name, keys, publish) in [
        ("empty", 0, false),
        ("1M", MILLION, false),
        ("1M, a view every 16", MILLION, true),
    ] {
        let mut store = filled(keys, Arrival::Random);
        let mut changes = Changes::new();
        let mut number = 0;
        let mut published = store.view();
        let requests: Vec<PutRequest> = (0..4096)
            .map(|n| put(n * 241 % keys.max(4096), Arrival::Random))
            .collect();
        group.bench_function(BenchmarkId::new("existing or new", name), |b| {
            b.iter(|| {
                changes.clear();
                number += 1;
                if publish && number % 16 == 0 {
                    published = store.view();
                }
                store.put(&requests[number % 4096], &mut changes)
            });
        });
        drop(published);
    }
    group.finish();
}

/// Per key of an answer two allocations, key and value; one more for the list.
fn reads(c: &mut Criterion) {
    let view = filled(MILLION, Arrival::Random).view();
    let mut group = c.benchmark_group("read 1M");
    let mut number = 0;
    for limit in [1i64, 10, 100] {
        group.throughput(Throughput::Elements(limit.unsigned_abs()));
        group.bench_function(BenchmarkId::new("range", limit), |b| {
            b.iter(|| {
                number = (number + 7919) % MILLION;
                let key = key(number, Arrival::Random);
                // A prefix that about 15 or 244 keys share, so that the full count costs what the answer does.
                let digits = [16, 4, 3][usize::from(limit > 1) + usize::from(limit > 10)];
                let key = key[..digits].to_vec();
                let range_end = if limit == 1 {
                    Vec::new()
                } else {
                    [&key[..], b"g"].concat()
                };
                let request = RangeRequest {
                    key,
                    range_end,
                    limit,
                    ..RangeRequest::default()
                };
                view.range(&request).map(|answer| answer.kvs.len())
            });
        });
    }
    let all = RangeRequest {
        key: vec![0],
        range_end: vec![0],
        count_only: true,
        ..RangeRequest::default()
    };
    group.throughput(Throughput::Elements(MILLION));
    group.bench_function("count all", |b| b.iter(|| view.range(black_box(&all))));
    group.finish();
}

/// Five puts under one compare: five records and one list of them for the log.
fn txns(c: &mut Criterion) {
    let mut store = filled(100_000, Arrival::Random);
    let mut changes = Changes::new();
    let mut number = 0;
    c.bench_function("txn of 5 puts, 100k", |b| {
        b.iter_batched(
            || {
                number = (number + 7919) % 99_000;
                let operation = |n: u64| RequestOp {
                    request: Some(Request::RequestPut(put(n, Arrival::Random))),
                };
                let compare = Compare {
                    key: key(number, Arrival::Random),
                    target: CompareTarget::Version as i32,
                    result: 1,
                    target_union: Some(TargetUnion::Version(0)),
                    ..Compare::default()
                };
                let success = (number..number + 5).map(operation).collect();
                TxnRequest {
                    compare: vec![compare],
                    success,
                    failure: Vec::new(),
                }
            },
            |request| {
                changes.clear();
                store.txn(&request, &mut changes)
            },
            BatchSize::SmallInput,
        );
    });
}

/// Ten versions of each of 10,000 keys, of which nine go: per version freed one lookup, per key one path.
fn sweeps(c: &mut Criterion) {
    let mut group = c.benchmark_group("sweep");
    group
        .throughput(Throughput::Elements(90_000))
        .sample_size(10);
    group.bench_function("9 of 10 versions, 10k keys", |b| {
        b.iter_batched(
            || {
                let mut store = Store::new();
                let mut changes = Changes::new();
                for number in 0..100_000 {
                    changes.clear();
                    store
                        .put(&put(number % 10_000, Arrival::Random), &mut changes)
                        .expect("a plain put");
                }
                let request = CompactionRequest {
                    revision: store.revision(),
                    physical: false,
                };
                store.compact(&request).expect("the newest revision");
                store
            },
            |mut store| {
                while store.sweep(32) == Sweep::More {}
                store
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// 320 bytes of each of 100,000 records, copied once and checksummed twice; decoding allocates each once.
fn snapshots(c: &mut Criterion) {
    let view = filled(100_000, Arrival::Random).view();
    let frames: Vec<Vec<u8>> = Encoder::new(view.clone(), b"").collect();
    let mut group = c.benchmark_group("snapshot 100k");
    group
        .throughput(Throughput::Bytes(
            frames.iter().map(|frame| frame.len() as u64).sum(),
        ))
        .sample_size(10);
    group.bench_function("encode", |b| {
        b.iter(|| {
            Encoder::new(view.clone(), b"")
                .map(|frame| frame.len())
                .sum::<usize>()
        })
    });
    group.bench_function("decode", |b| {
        b.iter_with_large_drop(|| {
            let mut decoder = Decoder::new();
            frames
                .iter()
                .try_for_each(|frame| decoder.push(frame))
                .expect("a whole snapshot");
            decoder.finish().expect("a whole snapshot")
        });
    });
    group.finish();
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let statm =
        std::fs::read_to_string("/proc/self/statm").expect("Linux tells a process its memory");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("the second number");
    pages * 4096
}

fn memory(arrival: Arrival) {
    drop(filled(1000, arrival));
    let (before, live) = (resident(), LIVE.load(Ordering::Relaxed));
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let start = std::time::Instant::now();
    let store = filled(MILLION, arrival);
    let puts = start.elapsed();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    let live = LIVE.load(Ordering::Relaxed) - live;
    println!("{} B asked of the allocator per key", live / MILLION);
    println!("{} B resident per key", (resident() - before) / MILLION);
    println!("{} B of records per key", store.bytes_in_use() / MILLION);
    println!(
        "{} allocations per put, its request's two included",
        allocations as f64 / MILLION as f64
    );
    println!("{puts:?} to put them all");
    let start = std::time::Instant::now();
    let frames: Vec<Vec<u8>> = Encoder::new(store.view(), b"").collect();
    println!("{:?} to encode a snapshot", start.elapsed());
    let before = resident();
    let start = std::time::Instant::now();
    let mut decoder = Decoder::new();
    frames
        .iter()
        .try_for_each(|frame| decoder.push(frame))
        .expect("a whole snapshot");
    let (copy, _) = decoder.finish().expect("a whole snapshot");
    println!("{:?} to decode it", start.elapsed());
    println!(
        "{} B resident per key after decoding",
        (resident() - before) / MILLION
    );
    assert_eq!(copy.revision(), store.revision());
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words.iter().position(|word| word == "memory") {
        Some(at) => match words.get(at + 1).map(String::as_str) {
            Some("random") => memory(Arrival::Random),
            _ => memory(Arrival::Sequential),
        },
        None => {
            let mut criterion = Criterion::default().configure_from_args();
            puts(&mut criterion);
            reads(&mut criterion);
            txns(&mut criterion);
            sweeps(&mut criterion);
            snapshots(&mut criterion);
            criterion.final_summary();
        }
    }
}

const MILLION: u64 = 1_000_000;
const VALUE_BYTES: usize = 256;
const PUTS_PER_VIEW: u64 = 64;
