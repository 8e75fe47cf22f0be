//! What it takes to try aquadoggo out, for scripts/interop:
//!
//!     edge HTTP_PORT NODE_PORT RELAY          a node that uses the relay at host:port, until it is killed
//!     relay HTTP_PORT NODE_PORT               one that is a relay
//!     create SCHEMA NAME=KIND:VALUE ...       signs the first operation of a document with a key of its own and prints
//!                                             entry, operation and document id; KIND is str or views, ids with commas

#![allow(deprecated)] // all of the crate is

use std::{error::Error, fmt::Write};

use aquadoggo::{ConfigFile, Configuration, Node};
use p2panda_rs::{
    document::DocumentViewId,
    entry::{encode::sign_and_encode_entry, traits::AsEncodedEntry, LogId, SeqNum},
    identity::KeyPair,
    operation::{encode::encode_operation, OperationBuilder, OperationValue, PinnedRelationList},
    schema::SchemaId,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::builder()
        .target(env_logger::Target::Stdout)
        .init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["edge", http, port, relay] => node(http, port, vec![relay.into()]).await,
        ["relay", http, port] => node(http, port, vec![]).await,
        ["create", schema, ref fields @ ..] => create(schema, fields),
        _ => Err(format!("unknown: {args:?}").into()),
    }
}

async fn node(http: &str, port: &str, relays: Vec<String>) -> Result<(), Box<dyn Error>> {
    let config = Configuration::try_from(ConfigFile {
        http_port: http.parse()?,
        node_port: port.parse()?,
        mdns: false,
        relay_mode: relays.is_empty(),
        relay_addresses: relays,
        ..ConfigFile::default()
    })?;
    Node::start(KeyPair::new(), config).await.on_exit().await;
    Ok(())
}

fn create(schema: &str, fields: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut values = Vec::new();
    for field in fields {
        let (name, value) = field.split_once('=').ok_or("NAME=KIND:VALUE")?;
        let value: OperationValue = match value.split_once(':').ok_or("KIND:VALUE")? {
            ("str", text) => text.into(),
            ("views", ids) => {
                let ids: Result<Vec<DocumentViewId>, _> = ids.split(',').map(str::parse).collect();
                OperationValue::PinnedRelationList(PinnedRelationList::new(ids?))
            }
            (kind, _) => return Err(format!("no kind {kind}").into()),
        };
        values.push((name, value));
    }
    let operation = OperationBuilder::new(&schema.parse::<SchemaId>()?)
        .fields(&values)
        .build()?;
    let operation = encode_operation(&operation)?;
    let first = SeqNum::default();
    let entry = sign_and_encode_entry(
        &LogId::default(),
        &first,
        None,
        None,
        &operation,
        &KeyPair::new(),
    )?;
    println!(
        "{} {} {}",
        hex(&entry.into_bytes()),
        hex(&operation.into_bytes()),
        entry.hash()
    );
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
