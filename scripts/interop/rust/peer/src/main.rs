//! A peer made of rust-libp2p, for scripts/interop; package bed tells its arguments and what it prints.

use std::{error::Error, io::Read, time::Duration};

use futures::StreamExt;
use libp2p::{
    dcutr, identify,
    multiaddr::Protocol,
    noise, ping, relay,
    rendezvous::{self, Namespace},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux, Multiaddr, PeerId, Swarm, SwarmBuilder,
};

const TTL: u64 = 7200;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay: relay::Behaviour,
    circuit: relay::client::Behaviour,
    dcutr: dcutr::Behaviour,
    client: rendezvous::client::Behaviour,
    server: rendezvous::server::Behaviour,
}

enum Task {
    Serve,
    Reserve,
    Dial(PeerId),
    Register(PeerId, Namespace),
    Discover(PeerId, Namespace),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key, circuit| {
            let me = key.public().to_peer_id();
            Behaviour {
                identify: identify::Behaviour::new(identify::Config::new(
                    "/interop/1.0.0".into(),
                    key.public(),
                )),
                ping: ping::Behaviour::default(),
                relay: relay::Behaviour::new(me, relay::Config::default()),
                circuit,
                dcutr: dcutr::Behaviour::new(me),
                client: rendezvous::client::Behaviour::new(key.clone()),
                server: rendezvous::server::Behaviour::new(rendezvous::server::Config::default()),
            }
        })?
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();

    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let Some((ip, verb)) = args.split_first() else {
        return Err("usage: IP VERB ...".into());
    };
    swarm.listen_on(format!("/ip4/{ip}/udp/0/quic-v1").parse()?)?;
    swarm.listen_on(format!("/ip4/{ip}/tcp/0").parse()?)?;
    let task = match verb[..] {
        ["serve"] => Task::Serve,
        ["reserve", addr] => {
            swarm.listen_on(addr.parse::<Multiaddr>()?.with(Protocol::P2pCircuit))?;
            Task::Reserve
        }
        ["dial", addr] => Task::Dial(dial(&mut swarm, addr)?),
        ["register", addr, ns] => {
            Task::Register(dial(&mut swarm, addr)?, Namespace::new(ns.into())?)
        }
        ["discover", addr, ns] => {
            Task::Discover(dial(&mut swarm, addr)?, Namespace::new(ns.into())?)
        }
        _ => return Err(format!("unknown: {args:?}").into()),
    };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
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

/// The limits as they are printed: seconds and bytes, 0 where there is none.
fn limits(duration: Option<Duration>, bytes: Option<u64>) -> String {
    format!(
        "{} {}",
        duration.unwrap_or_default().as_secs(),
        bytes.unwrap_or_default()
    )
}

async fn run(mut swarm: Swarm<Behaviour>, task: Task) -> Result<(), Box<dyn Error>> {
    let me = *swarm.local_peer_id();
    let mut circuit = limits(None, None);
    let mut connected = false;
    loop {
        let event = match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => {
                // A relay tells external addresses, a record lists them. DCUtR offers those observed that are not yet external.
                if let Task::Serve | Task::Register(..) = task {
                    swarm.add_external_address(address.clone());
                }
                if let Task::Serve = task {
                    println!("listening {address}/p2p/{me}");
                }
                continue;
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                if let Task::Discover(point, ns) = &task {
                    if peer_id == *point {
                        let client = &mut swarm.behaviour_mut().client;
                        client.discover(Some(ns.clone()), None, None, *point);
                    }
                }
                continue;
            }
            SwarmEvent::OutgoingConnectionError { error, .. } if !connected => {
                println!("failed {error:?}");
                continue;
            }
            SwarmEvent::Behaviour(event) => event,
            event => {
                eprintln!("{event:?}");
                continue;
            }
        };
        eprintln!("{event:?}");
        match (event, &task) {
            (
                BehaviourEvent::Identify(identify::Event::Received { peer_id, .. }),
                Task::Register(point, ns),
            ) if peer_id == *point => {
                let client = &mut swarm.behaviour_mut().client;
                client.register(ns.clone(), *point, Some(TTL))?;
            }
            (
                BehaviourEvent::Circuit(relay::client::Event::ReservationReqAccepted {
                    limit,
                    renewal: false,
                    ..
                }),
                Task::Reserve,
            ) => println!(
                "reserved {me} {}",
                limits(
                    limit.and_then(|l| l.duration()),
                    limit.and_then(|l| l.data_in_bytes())
                )
            ),
            (
                BehaviourEvent::Circuit(relay::client::Event::OutboundCircuitEstablished {
                    limit,
                    ..
                }),
                _,
            ) => {
                circuit = limits(
                    limit.and_then(|l| l.duration()),
                    limit.and_then(|l| l.data_in_bytes()),
                )
            }
            (
                BehaviourEvent::Ping(ping::Event {
                    peer,
                    result: Ok(_),
                    ..
                }),
                Task::Dial(to),
            ) if peer == *to && !connected => {
                connected = true;
                println!("connected {circuit}");
            }
            (BehaviourEvent::Dcutr(dcutr::Event { result: Ok(_), .. }), _) => println!("punched"),
            (BehaviourEvent::Client(event), _) => match event {
                rendezvous::client::Event::Registered { .. } => println!("registered {me}"),
                rendezvous::client::Event::Discovered { registrations, .. } => {
                    for registration in registrations {
                        println!("found {}", registration.record.peer_id());
                    }
                    println!("done");
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
