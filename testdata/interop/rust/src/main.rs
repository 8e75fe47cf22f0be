//! A rendezvous peer made of rust-libp2p, for the interoperability test of
//! netkit/rendezvous. It lives until its standard input ends.
//!
//!     serve                  prints its address and serves
//!     register ADDR NS       registers, then prints its peer id
//!     discover ADDR NS       prints the peer ids it finds, and ends

use std::{error::Error, io::Read, time::Duration};

use futures::StreamExt;
use libp2p::{
    identify,
    multiaddr::Protocol,
    rendezvous::{self, Namespace},
    swarm::{NetworkBehaviour, SwarmEvent},
    Multiaddr, PeerId, Swarm, SwarmBuilder,
};

const TTL: u64 = 7200;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    client: rendezvous::client::Behaviour,
    server: rendezvous::server::Behaviour,
}

enum Task {
    Serve,
    Register(PeerId, Namespace),
    Discover(PeerId, Namespace),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_behaviour(|key| Behaviour {
            identify: identify::Behaviour::new(identify::Config::new(
                "/rendezvous-interop/1.0.0".into(),
                key.public(),
            )),
            client: rendezvous::client::Behaviour::new(key.clone()),
            server: rendezvous::server::Behaviour::new(rendezvous::server::Config::default()),
        })?
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?;

    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let task = match args[..] {
        ["serve"] => Task::Serve,
        ["register", addr, ns] => {
            Task::Register(dial(&mut swarm, addr)?, Namespace::new(ns.into())?)
        }
        ["discover", addr, ns] => {
            Task::Discover(dial(&mut swarm, addr)?, Namespace::new(ns.into())?)
        }
        _ => return Err("usage: serve | register ADDR NS | discover ADDR NS".into()),
    };
    if !matches!(task, Task::Discover(..)) {
        std::thread::spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(0);
        });
    }
    run(swarm, task).await
}

fn dial(swarm: &mut Swarm<Behaviour>, addr: &str) -> Result<PeerId, Box<dyn Error>> {
    let addr: Multiaddr = addr.parse()?;
    let Some(Protocol::P2p(peer)) = addr.iter().last() else {
        return Err("address without a peer id".into());
    };
    swarm.dial(addr)?;
    Ok(peer)
}

async fn run(mut swarm: Swarm<Behaviour>, task: Task) -> Result<(), Box<dyn Error>> {
    let me = *swarm.local_peer_id();
    loop {
        match (swarm.select_next_some().await, &task) {
            (SwarmEvent::NewListenAddr { address, .. }, _) => {
                swarm.add_external_address(address.clone());
                if let Task::Serve = task {
                    println!("{address}/p2p/{me}");
                }
            }
            (SwarmEvent::ConnectionEstablished { peer_id, .. }, Task::Discover(point, ns))
                if peer_id == *point =>
            {
                swarm
                    .behaviour_mut()
                    .client
                    .discover(Some(ns.clone()), None, None, *point);
            }
            (
                SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                    peer_id,
                    ..
                })),
                Task::Register(point, ns),
            ) if peer_id == *point => {
                swarm
                    .behaviour_mut()
                    .client
                    .register(ns.clone(), *point, Some(TTL))?;
            }
            (SwarmEvent::OutgoingConnectionError { error, .. }, _) => return Err(error.into()),
            (SwarmEvent::Behaviour(BehaviourEvent::Client(event)), _) => match event {
                rendezvous::client::Event::Registered { .. } => println!("{me}"),
                rendezvous::client::Event::Discovered { registrations, .. } => {
                    for registration in registrations {
                        println!("{}", registration.record.peer_id());
                    }
                    return Ok(());
                }
                rendezvous::client::Event::RegisterFailed { error, .. } => {
                    return Err(format!("{error:?}").into())
                }
                rendezvous::client::Event::DiscoverFailed { error, .. } => {
                    return Err(format!("{error:?}").into())
                }
                rendezvous::client::Event::Expired { .. } => {}
            },
            _ => {}
        }
    }
}
