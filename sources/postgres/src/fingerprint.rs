//! What a table holds, as one number: count, bytes and an order-independent digest of its rows, to compare a restore with its
//! manifest.
//!
//! Values of arrays and composite types carry the numbers of user-defined types, which differ from database to database. They are left
//! out of the sum ([`RowForms`]).

mod forms;
mod shape;

pub use forms::RowForms;

use crate::copy::CopyRows;
use crate::layout::Layout;
use crate::session::{Purpose, Session};
use holdfast_types::{ErrorCode, Fault, RowSum};
use std::ops::Range;

/// Reads the rows of a table, or of some of its pages, and adds them up. The table may have another name than in the layout, and its
/// columns another order: they are read by name, in the layout's forms. Sums of all page ranges together are the table's.
///
/// # Errors
/// `InvalidArgument` for a session that is not for data, whose texts could be converted; what the server says.
pub async fn fingerprint(
    session: &Session,
    layout: &Layout,
    schema: &str,
    table: &str,
    pages: Option<Range<u32>>,
) -> Result<RowSum, Fault> {
    let info = session.info();
    if info.client_encoding != info.server_encoding {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!(
                "rows are summed in a session for data ({:?})",
                Purpose::Data
            ),
        ));
    }
    let forms = RowForms::read(session, layout, schema, table).await?;
    let spelling = session.spelling();
    let columns: Vec<String> = layout
        .columns
        .iter()
        .map(|column| {
            let name = spelling.identifier(&column.name);
            if column.as_text {
                format!("{name}::text")
            } else {
                name
            }
        })
        .collect();
    let range = pages.map_or(String::new(), |pages| {
        format!(
            " WHERE ctid >= '({},0)' AND ctid < '({},0)'",
            pages.start, pages.end
        )
    });
    let sql = format!(
        "COPY (SELECT {} FROM ONLY {}{range}) TO STDOUT (FORMAT binary)",
        columns.join(", "),
        spelling.qualified(schema, table)
    );
    let mut rows = CopyRows::new(session.copy_out(&sql).await?, layout.columns.len());
    let mut sum = RowSum::default();
    while let Some(row) = rows.next().await? {
        forms.add(&mut sum, &row)?;
    }
    Ok(sum)
}
