//! An encrypted collection of two stores, from its first full to the last restore.

use holdfast_client::v1::submit_backup_request::Layer;

use crate::cycle::{assert_comes_back, assert_each_at_home, backup, canaries, start, write_chain};
use crate::search::{assert_nothing_is_seen, files, holds};
use crate::{Cli, PASSPHRASE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_cycle_in_two_stores_survives_kills_and_shows_nothing() {
    let (mut cluster, accounts) = start(2).await;
    let rows = canaries(&accounts).await;
    let place = |name: &str| cluster.directory().join(name);
    let places = [place("home"), place("east")];
    let uri = |name: &str, more: &str| format!("file://{}{more}", place(name).display());
    let stores = [
        uri("home", "?HOLDFAST_LOCALITY=default"),
        uri("east", "?HOLDFAST_LOCALITY=zone%3Dz1"),
    ];
    let (clear, clear_place) = ([uri("clear", "")], place("clear"));

    let instants = write_chain(&mut cluster, &accounts, &stores).await;
    assert_comes_back(&cluster, &accounts, &stores, &instants).await;

    // Where everything lies is shown to whoever has a key.
    let other = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &str| {
        let path = other.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let (pass, wrong) = (file("pass", PASSPHRASE), file("wrong", "another canary"));
    let cli = Cli(&cluster);
    let line = format!("backups residency {} {}", stores[0], stores[1]);
    cli.fails(&line, 4, "is encrypted, and no key was given");
    let given = format!("{line} --passphrase-file {wrong}");
    cli.fails(&given, 4, "the passphrase does not open the chain");
    for more in ["", "--local"] {
        let given = format!("--passphrase-file {pass} {more}");
        assert_each_at_home(&cli, &stores, &given).await;
    }

    // The rows are such that they would be seen if they were in clear.
    let job = backup(&cluster, &clear, Layer::Full(true), false).await;
    cluster.succeeded(job).await;
    let in_clear: Vec<Vec<u8>> = (files(&clear_place).iter())
        .map(|path| std::fs::read(path).expect("is read"))
        .collect();
    let is_seen = |row: &Vec<u8>| in_clear.iter().any(|bytes| holds(bytes, row));
    let unseen = canaries(&accounts).await;
    let unseen = unseen.iter().filter(|row| !is_seen(row)).count();
    assert_eq!(unseen, 0, "rows that say nothing");
    assert_nothing_is_seen(&cluster, &places, &[PASSPHRASE], &[PASSPHRASE], &rows).await;
}
