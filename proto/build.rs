//! Compiles the protocol files with protox: no `protoc` on the machine is needed.

#![allow(
    clippy::disallowed_methods,
    reason = "a build script runs where there is no Env"
)]

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 4] = ["control.proto", "worker.proto", "raft.proto", "mvcc.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from("proto");
    let files: Vec<PathBuf> = FILES
        .iter()
        .map(|file| root.join("holdfast/v1").join(file))
        .collect();
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let descriptors = protox::compile(&files, [&root])?;
    let encoded = prost::Message::encode_to_vec(&descriptors);
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(out, encoded)?;
    tonic_prost_build::configure()
        .bytes(".")
        // They hold passwords, or URIs with secrets: `secrets.rs` has their `Debug`.
        .skip_debug([
            "holdfast.v1.Member",
            "holdfast.v1.EncryptionKeys",
            "holdfast.v1.SubmitBackupRequest",
            "holdfast.v1.SubmitRestoreRequest",
            "holdfast.v1.SubmitVerifyRequest",
            "holdfast.v1.ExpireBackupsRequest",
            "holdfast.v1.ListBackupsRequest",
            "holdfast.v1.ShowBackupRequest",
            "holdfast.v1.PutConnectionRequest",
            "holdfast.v1.PutUserRequest",
            "holdfast.v1.CheckConnectionRequest",
            "holdfast.v1.CheckResidencyRequest",
            "holdfast.v1.CreateScheduleRequest",
            "holdfast.v1.AlterScheduleRequest",
            "holdfast.v1.ShowKeysRequest",
            "holdfast.v1.ChangeKeysRequest",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
