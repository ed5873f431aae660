//! The wire contract: the descriptors against a table of the API, and messages as exact bytes.

use std::collections::{BTreeMap, BTreeSet};

use metastore_proto::{
    FILE_DESCRIPTOR_SET, authpb, etcdserverpb as rpc, health, mvccpb, v3electionpb, v3lockpb,
};
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Headings (`rpc …`, `enum …`, `message …`), each with the lines below it.
type Table = BTreeMap<String, BTreeSet<String>>;

#[test]
fn descriptors_say_exactly_what_the_api_table_says() {
    let expected = parse(include_str!("api.txt"));
    let found = describe(&descriptors());
    for (heading, lines) in &expected {
        let got = found.get(heading);
        assert!(got.is_some(), "missing from the .proto files: {heading}");
        assert_eq!(got, Some(lines), "in {heading}");
    }
    let extra: Vec<_> = found
        .keys()
        .filter(|heading| !expected.contains_key(*heading))
        .collect();
    assert!(extra.is_empty(), "missing from the table: {extra:?}");
}

#[test]
fn field_names_keep_their_order_and_their_case() {
    // JSON shows these names unchanged, mixed as their cases are.
    let set = descriptors();
    let status = message(&set, "rpc_maintenance.proto", "StatusResponse");
    let names: Vec<_> = status
        .field
        .iter()
        .map(FieldDescriptorProto::name)
        .collect();
    assert_eq!(
        names,
        [
            "header",
            "version",
            "dbSize",
            "leader",
            "raftIndex",
            "raftTerm",
            "raftAppliedIndex",
            "errors",
            "dbSizeInUse",
            "isLearner",
            "storageVersion",
            "dbSizeQuota",
            "downgradeInfo",
        ]
    );
}

#[test]
fn imports_come_before_their_users_and_carry_no_source_positions() {
    let set = descriptors();
    let mut seen = BTreeSet::new();
    for file in &set.file {
        for import in &file.dependency {
            assert!(seen.contains(import), "{} before {import}", file.name());
        }
        seen.insert(file.name().to_owned());
        assert_eq!(file.syntax(), "proto3", "{}", file.name());
        assert!(file.source_code_info.is_none(), "{}", file.name());
    }
}

#[test]
fn watch_events_are_field_eleven() {
    let event = mvccpb::Event {
        r#type: mvccpb::event::EventType::Delete.into(),
        kv: Some(mvccpb::KeyValue {
            key: b"k".to_vec(),
            mod_revision: 5,
            ..Default::default()
        }),
        prev_kv: None,
    };
    let response = rpc::WatchResponse {
        watch_id: -1,
        events: vec![event],
        ..Default::default()
    };
    check(
        &response,
        &[
            // watch_id: ten bytes, because int64 is not zigzagged
            0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            // events, 9 bytes: type 1, kv of 5 bytes: key "k", mod_revision 5
            0x5a, 0x09, 0x08, 0x01, 0x12, 0x05, 0x0a, 0x01, b'k', 0x18, 0x05,
        ],
    );
}

#[test]
fn the_end_of_a_compared_range_is_field_sixty_four() {
    let compare = rpc::Compare {
        result: rpc::compare::CompareResult::NotEqual.into(),
        target: rpc::compare::CompareTarget::Lease.into(),
        key: b"a".to_vec(),
        range_end: b"b".to_vec(),
        target_union: Some(rpc::compare::TargetUnion::Lease(7)),
    };
    check(
        &compare,
        &[
            0x08, 0x03, 0x10, 0x04, 0x1a, 0x01, b'a', 0x40, 0x07, 0x82, 0x04, 0x01, b'b',
        ],
    );
}

#[test]
fn a_zero_operand_of_a_compare_is_written_because_it_was_chosen() {
    let compare = rpc::Compare {
        key: b"a".to_vec(),
        target_union: Some(rpc::compare::TargetUnion::Version(0)),
        ..Default::default()
    };
    check(&compare, &[0x1a, 0x01, b'a', 0x20, 0x00]);
}

#[test]
fn a_txn_nests_another() {
    let inner = rpc::TxnRequest {
        success: vec![put("k", "v")],
        ..Default::default()
    };
    let outer = rpc::TxnRequest {
        failure: vec![rpc::RequestOp {
            request: Some(rpc::request_op::Request::RequestTxn(inner)),
        }],
        ..Default::default()
    };
    check(
        &outer,
        &[
            // failure { request_txn { success { request_put { "k", "v" } } } }
            0x1a, 0x0c, 0x22, 0x0a, 0x12, 0x08, 0x12, 0x06, 0x0a, 0x01, b'k', 0x12, 0x01, b'v',
        ],
    );
}

#[test]
fn watch_filters_are_packed_and_read_unpacked_too() {
    let create = rpc::WatchCreateRequest {
        key: b"k".to_vec(),
        filters: vec![0, 1],
        ..Default::default()
    };
    check(&create, &[0x0a, 0x01, b'k', 0x2a, 0x02, 0x00, 0x01]);
    let unpacked: &[u8] = &[0x0a, 0x01, b'k', 0x28, 0x00, 0x28, 0x01];
    assert_eq!(rpc::WatchCreateRequest::decode(unpacked), Ok(create));
}

#[test]
fn a_grant_puts_its_ttl_before_its_id() {
    let grant = rpc::LeaseGrantRequest { ttl: 60, id: 3 };
    check(&grant, &[0x08, 0x3c, 0x10, 0x03]);
    let granted = rpc::LeaseGrantResponse {
        header: None,
        id: 3,
        ttl: 60,
        error: String::new(),
    };
    check(&granted, &[0x10, 0x03, 0x18, 0x3c]);
}

#[test]
fn header_ids_use_all_sixty_four_bits() {
    let header = rpc::ResponseHeader {
        cluster_id: u64::MAX,
        member_id: 1,
        revision: 2,
        raft_term: 3,
    };
    check(
        &header,
        &[
            0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x10, 0x01, 0x18,
            0x02, 0x20, 0x03,
        ],
    );
}

#[test]
fn messages_of_the_other_packages_have_their_numbers() {
    check(
        &authpb::Permission {
            perm_type: authpb::permission::Type::Readwrite.into(),
            key: b"a".to_vec(),
            range_end: vec![0],
        },
        &[0x08, 0x02, 0x12, 0x01, b'a', 0x1a, 0x01, 0x00],
    );
    check(
        &v3lockpb::LockRequest {
            name: b"l".to_vec(),
            lease: 1,
        },
        &[0x0a, 0x01, b'l', 0x10, 0x01],
    );
    check(
        &v3electionpb::ProclaimRequest {
            leader: Some(v3electionpb::LeaderKey {
                rev: 4,
                ..Default::default()
            }),
            value: b"v".to_vec(),
        },
        &[0x0a, 0x02, 0x18, 0x04, 0x12, 0x01, b'v'],
    );
    check(
        &health::HealthCheckResponse {
            status: health::health_check_response::ServingStatus::Serving.into(),
        },
        &[0x08, 0x01],
    );
}

#[test]
fn unknown_fields_are_skipped() {
    // Field 100, two bytes long, in front of the revision.
    let bytes: &[u8] = &[0xa2, 0x06, 0x02, 0xff, 0xff, 0x08, 0x09];
    let decoded = rpc::CompactionRequest::decode(bytes);
    let expected = rpc::CompactionRequest {
        revision: 9,
        physical: false,
    };
    assert_eq!(decoded, Ok(expected));
}

#[test]
fn a_name_that_is_not_text_is_refused_but_a_key_may_be_anything() {
    let bytes: &[u8] = &[0x0a, 0x01, 0xff];
    assert!(rpc::AuthUserGetRequest::decode(bytes).is_err());
    let put = rpc::PutRequest::decode(bytes).expect("a key is arbitrary bytes");
    assert_eq!(put.key, [0xff]);
}

/// Asserts that `message` is written as `bytes`, and `bytes` read as `message`.
#[track_caller]
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M, bytes: &[u8]) {
    assert_eq!(message.encode_to_vec(), bytes);
    assert_eq!(M::decode(bytes).as_ref(), Ok(message));
}

fn put(key: &str, value: &str) -> rpc::RequestOp {
    let put = rpc::PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    };
    rpc::RequestOp {
        request: Some(rpc::request_op::Request::RequestPut(put)),
    }
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the build wrote a descriptor set")
}

fn message<'a>(set: &'a FileDescriptorSet, file: &str, name: &str) -> &'a DescriptorProto {
    let file = set.file.iter().find(|f| f.name() == file);
    let mut messages = file.expect("the file is in the set").message_type.iter();
    messages
        .find(|m| m.name() == name)
        .expect("the message is in the file")
}

/// Reads the table: lines indented under headings; `#` starts a comment line.
fn parse(text: &str) -> Table {
    let mut table = Table::new();
    let mut heading = String::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(entry) = line.strip_prefix("  ") {
            let lines = table.get_mut(&heading).expect("a heading comes first");
            assert!(
                lines.insert(entry.to_owned()),
                "twice in {heading}: {entry}"
            );
        } else {
            heading = line.to_owned();
            let twice = table.insert(heading.clone(), BTreeSet::new());
            assert!(twice.is_none(), "twice in the table: {heading}");
        }
    }
    table
}

/// Writes descriptors in the form of the table.
fn describe(set: &FileDescriptorSet) -> Table {
    let mut table = Table::new();
    for file in &set.file {
        let package = file.package();
        for service in &file.service {
            for method in &service.method {
                let kind = match (method.client_streaming(), method.server_streaming()) {
                    (false, false) => "unary",
                    (false, true) => "server_stream",
                    (true, false) => "client_stream",
                    (true, true) => "bidi_stream",
                };
                let (service, name) = (service.name(), method.name());
                let (input, output) = (bare(method.input_type()), bare(method.output_type()));
                let heading = format!("rpc /{package}.{service}/{name} {kind} {input} {output}");
                table.insert(heading, BTreeSet::new());
            }
        }
        for enumeration in &file.enum_type {
            describe_enum(package, enumeration, &mut table);
        }
        for message in &file.message_type {
            describe_message(package, message, &mut table);
        }
    }
    table
}

fn describe_enum(scope: &str, enumeration: &EnumDescriptorProto, table: &mut Table) {
    let values = enumeration.value.iter();
    let lines = values.map(|v| format!("{} {}", v.number(), v.name()));
    let heading = format!("enum {scope}.{}", enumeration.name());
    table.insert(heading, lines.collect());
}

fn describe_message(scope: &str, message: &DescriptorProto, table: &mut Table) {
    let name = format!("{scope}.{}", message.name());
    for enumeration in &message.enum_type {
        describe_enum(&name, enumeration, table);
    }
    for nested in &message.nested_type {
        if !is_map_entry(nested) {
            describe_message(&name, nested, table);
        }
    }
    let fields = message.field.iter();
    let lines = fields.map(|field| describe_field(message, field));
    table.insert(format!("message {name}"), lines.collect());
}

fn describe_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    assert!(!field.proto3_optional(), "presence would change the API");
    let mut line = format!("{} {} ", field.number(), field.name());
    let entry = message.nested_type.iter().find(|nested| {
        is_map_entry(nested) && field.type_name().ends_with(&format!(".{}", nested.name()))
    });
    if let Some(entry) = entry {
        let (key, value) = (type_name(&entry.field[0]), type_name(&entry.field[1]));
        line += &format!("map<{key},{value}>");
    } else {
        if field.label() == Label::Repeated {
            line += "repeated ";
        }
        line += &type_name(field);
    }
    if let Some(index) = field.oneof_index {
        let index = usize::try_from(index).expect("an index is not negative");
        line += &format!(" oneof {}", message.oneof_decl[index].name());
    }
    line
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => bare(field.type_name()).to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Bytes => "bytes".to_owned(),
        Type::String => "string".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Uint32 => "uint32".to_owned(),
        Type::Uint64 => "uint64".to_owned(),
        other => format!("{other:?}"),
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|o| o.map_entry())
}

/// A full name without the leading dot that descriptors give it.
fn bare(name: &str) -> &str {
    name.strip_prefix('.').unwrap_or(name)
}
