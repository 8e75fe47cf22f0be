//! What the crates' own types encode, with fields that are easy to tell apart.

use borsh::BorshSerialize;
use hotstuff_rs::{
    messages::{Message, Nudge, NewView, ProgressMessage, Proposal, SyncMessage, SyncRequest, SyncResponse, Vote},
    types::{Block, Phase, QuorumCertificate},
};
use pchain_types::{
    blockchain::{Command, Transaction},
    cryptography::{Keypair, PublicKey, SecretKey},
    runtime::{
        CallInput, CreateDepositInput, CreatePoolInput, DeployInput, SetDepositSettingsInput, SetPoolSettingsInput,
        StakeDepositInput, TopUpDepositInput, TransferInput, UnstakeDepositInput, WithdrawDepositInput,
    },
};

pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut out = Vec::new();
    for (name, message) in messages() {
        out.push((name, message.try_to_vec().unwrap()));
    }
    let block = block();
    out.push(("block-hash", Block::hash(block.height, &block.justify, &block.data_hash).to_vec()));
    for (name, commands) in [("tx-empty", vec![]), ("tx-every-command", commands())] {
        out.push((name, transaction(commands).try_to_vec().unwrap()));
    }
    out
}

fn messages() -> Vec<(&'static str, Message)> {
    let progress = Message::ProgressMessage;
    let vote = |phase| {
        progress(ProgressMessage::Vote(Vote { chain_id: 1, view: 2, block: [3; 32], phase, signature: [4; 64] }))
    };
    vec![
        ("proposal", progress(ProgressMessage::Proposal(Proposal { chain_id: 1, view: 2, block: block() }))),
        ("nudge", progress(ProgressMessage::Nudge(Nudge { chain_id: 1, view: 2, justify: certificate() }))),
        ("vote-generic", vote(Phase::Generic)),
        ("vote-prepare", vote(Phase::Prepare)),
        ("vote-precommit", vote(Phase::Precommit(9))),
        ("vote-commit", vote(Phase::Commit(10))),
        (
            "new-view-genesis",
            progress(ProgressMessage::NewView(NewView { chain_id: 1, view: 2, highest_qc: QuorumCertificate::genesis_qc() })),
        ),
        ("sync-request", Message::SyncMessage(SyncMessage::SyncRequest(SyncRequest { start_height: 1, limit: 5 }))),
        (
            "sync-response",
            Message::SyncMessage(SyncMessage::SyncResponse(SyncResponse {
                blocks: vec![block(), block()],
                highest_qc: certificate(),
            })),
        ),
    ]
}

fn certificate() -> QuorumCertificate {
    QuorumCertificate {
        chain_id: 1,
        view: 7,
        block: [5; 32],
        phase: Phase::Precommit(6),
        signatures: vec![None, Some([8; 64]), None],
    }
}

fn block() -> Block {
    Block::new(11, certificate(), [12; 32], vec![vec![], vec![1, 2, 3]])
}

fn commands() -> Vec<Command> {
    let one = [1; 32];
    vec![
        Command::Transfer(TransferInput { recipient: one, amount: 2 }),
        Command::Deploy(DeployInput { contract: vec![3, 4, 5], cbi_version: 6 }),
        Command::Call(CallInput {
            target: one,
            method: "tränsfer".into(),
            arguments: Some(vec![vec![7], vec![]]),
            amount: Some(8),
        }),
        Command::Call(CallInput { target: one, method: String::new(), arguments: None, amount: None }),
        Command::CreatePool(CreatePoolInput { commission_rate: 9 }),
        Command::SetPoolSettings(SetPoolSettingsInput { commission_rate: 10 }),
        Command::DeletePool,
        Command::CreateDeposit(CreateDepositInput { operator: one, balance: 11, auto_stake_rewards: true }),
        Command::SetDepositSettings(SetDepositSettingsInput { operator: one, auto_stake_rewards: false }),
        Command::TopUpDeposit(TopUpDepositInput { operator: one, amount: 12 }),
        Command::WithdrawDeposit(WithdrawDepositInput { operator: one, max_amount: 13 }),
        Command::StakeDeposit(StakeDepositInput { operator: one, max_amount: 14 }),
        Command::UnstakeDeposit(UnstakeDepositInput { operator: one, max_amount: 15 }),
        Command::NextEpoch,
    ]
}

/// Signed by the key whose seed is 32 times 7.
fn transaction(commands: Vec<Command>) -> Transaction {
    let secret = SecretKey::from_bytes(&[7; 32]).unwrap();
    let public = PublicKey::from(&secret);
    Transaction::new(&Keypair { secret, public }, 0, commands, 200000, 8, 0)
}
