//! A peer of ParallelChain's network, for scripts/interop: a shell around the crate pchain_network, and its types' encodings.
//!
//!     pchain-peer vectors                              prints "NAME HEX" for messages that its types encode
//!     pchain-peer PORT SEED BOOT|- listen              joins; SEED is 64 hex digits, BOOT is ADDRESS@IP:PORT
//!     pchain-peer PORT SEED BOOT|- broadcast TOPIC HEX the same, and publishes once a second
//!     pchain-peer PORT SEED BOOT|- send ADDRESS HEX    the same, and sends to one address once a second
//!
//! It says "ready ADDRESS", "peer ADDRESS" for each it has identified and "message TOPIC ORIGIN HEX" for each message, and lives
//! until its input ends.

mod vectors;

use std::{collections::HashSet, error::Error, io::Read, time::Duration};

use async_trait::async_trait;
use pchain_network::{
    configuration::Config,
    engine,
    messages::{Envelope, MessageGate, MessageGateChain, NetworkTopic, NetworkTopicHash},
    network::SendCommand,
    peer_info::PeerInfo,
};
use pchain_types::cryptography::{Keypair, PublicAddress, PublicKey, SecretKey};

const TOPICS: [&str; 3] = ["consensus", "mempool", "droppedTx"];

/// One gate a topic, because a gate is told the topic apart from the message.
struct Gate(String);

#[async_trait]
impl MessageGate for Gate {
    async fn can_proceed(&self, topic: &NetworkTopicHash) -> bool {
        topic.as_str() == self.0
    }

    async fn proceed(&self, e: Envelope) -> bool {
        println!("message {} {} {}", self.0, base64url::encode(e.origin), hex(&e.message));
        true
    }
}

enum Task {
    Listen,
    Broadcast(String, Vec<u8>),
    Send(PublicAddress, Vec<u8>),
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (port, seed, boot, task) = match args[..] {
        ["vectors"] => {
            for (name, bytes) in vectors::all() {
                println!("{name} {}", hex(&bytes));
            }
            return Ok(());
        }
        [port, seed, boot, "listen"] => (port, seed, boot, Task::Listen),
        [port, seed, boot, "broadcast", topic, data] => (port, seed, boot, Task::Broadcast(topic.into(), unhex(data)?)),
        [port, seed, boot, "send", to, data] => (port, seed, boot, Task::Send(address(to)?, unhex(data)?)),
        _ => return Err("usage: PORT SEED BOOT|- listen | broadcast TOPIC HEX | send ADDRESS HEX".into()),
    };
    let (config, me) = configure(port.parse()?, seed, boot)?;

    let mut gates = MessageGateChain::new().chain(Gate(base64url::encode(me)));
    for topic in TOPICS {
        gates = gates.chain(Gate(topic.into()));
    }
    let topics = TOPICS.iter().map(|t| NetworkTopic::new(t.to_string())).collect();
    let network = engine::start(config, topics, gates).await?;
    println!("ready {}", base64url::encode(me));

    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let sender = network.sender();
    let mut told = HashSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        for peer in network.list_addresses().await {
            if told.insert(peer) {
                println!("peer {}", base64url::encode(peer));
            }
        }
        match &task {
            Task::Listen => {}
            Task::Broadcast(topic, data) => {
                sender.send(SendCommand::Broadcast(NetworkTopic::new(topic.clone()), data.clone())).await?
            }
            Task::Send(to, data) => sender.send(SendCommand::SendTo(*to, data.clone())).await?,
        }
    }
}

/// The configuration of a peer, and the address that its key is.
fn configure(port: u16, seed: &str, boot: &str) -> Result<(Config, PublicAddress), Box<dyn Error>> {
    let secret = SecretKey::from_bytes(&unhex(seed)?)?;
    let public = PublicKey::from(&secret);
    let keys = Keypair { secret, public };
    let mut boots = Vec::new();
    if boot != "-" {
        let (who, at) = boot.split_once('@').ok_or("BOOT is ADDRESS@IP:PORT")?;
        let (ip, port) = at.split_once(':').ok_or("BOOT is ADDRESS@IP:PORT")?;
        boots.push(PeerInfo::new(address(who)?, ip.parse()?, port.parse()?));
    }
    let config = Config::new_with_keypair(keys.to_bytes().to_vec()).set_port(port).set_boot_nodes(boots);
    Ok((config, public.to_bytes()))
}

fn address(text: &str) -> Result<PublicAddress, Box<dyn Error>> {
    let bytes = base64url::decode(text).map_err(|_| "not base64url")?;
    bytes.try_into().map_err(|_| "not an address of 32 bytes".into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    if text.len() % 2 != 0 {
        return Err("odd number of hex digits".into());
    }
    (0..text.len()).step_by(2).map(|i| Ok(u8::from_str_radix(&text[i..i + 2], 16)?)).collect()
}
