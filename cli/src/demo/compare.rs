//! The proof: what was restored against what the source itself says that it held.

use futures::future::try_join_all;
use holdfast_types::{Fault, Hlc, TableName};

use super::bank::{Bank, Branch, TABLE, balance_of};
use super::wrong;
use crate::rows::Rows;

/// Compares the restored accounts with the accounts as of a position, row by row and member by member, and adds up the money. Gives
/// the number of rows.
pub(super) async fn compare(
    bank: &Bank,
    original: &str,
    restored: &str,
    at: Hlc,
) -> Result<u64, Fault> {
    let branches = bank.branches().iter();
    let counts =
        try_join_all(branches.map(|branch| compare_branch(branch, original, restored, at)));
    let rows = counts.await?.into_iter().sum();
    if rows != bank.rows() {
        return Err(wrong(format!(
            "{rows} rows were compared, {} exist",
            bank.rows()
        )));
    }
    Ok(rows)
}

async fn compare_branch(
    branch: &Branch,
    original: &str,
    restored: &str,
    at: Hlc,
) -> Result<u64, Fault> {
    let table = |database: &str| TableName {
        database: database.to_owned(),
        table: TABLE.to_owned(),
    };
    let member = branch.client();
    let mut expected = Rows::open(member, &table(original), Some(at)).await?;
    let mut found = Rows::open(member, &table(restored), None).await?;
    let (mut rows, mut money) = (0u64, 0u64);
    loop {
        let row = match (expected.next().await?, found.next().await?) {
            (None, None) => break,
            (Some(expected), Some(found)) if expected == found => found,
            (expected, found) => {
                let what = match (expected, found) {
                    (Some((a, _)), Some((b, _))) if a == b => "has another content",
                    (Some(_), None) => "is missing",
                    (None, Some(_)) => "should not be there",
                    _ => "has another key",
                };
                return Err(wrong(format!(
                    "row {} of {restored}.{TABLE} on {} {what} than {original}.{TABLE} as of {at}",
                    rows + 1,
                    branch.name()
                )));
            }
        };
        rows += 1;
        money += balance_of(&row.1)?;
    }
    if money != branch.money() {
        return Err(wrong(format!(
            "{} has {money} in its accounts instead of {}: a transfer was cut in half",
            branch.name(),
            branch.money()
        )));
    }
    Ok(rows)
}
