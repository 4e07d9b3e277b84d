//! Relations that are copied whole under F.

use holdfast_source::Outlet;
use holdfast_types::{ErrorCode, Fault, RowSum};

use super::Settling;
use crate::copy::CopyReader;
use crate::exact::{HeldSnapshot, import};
use crate::fingerprint::RowForms;
use crate::layout::Layout;
use crate::member::catalog::{Content, DatabaseCatalog, RelationEntry};
use crate::member::read::RowWriter;
use crate::pages::{Opened, open_whole};
use crate::session::{Purpose, Session};

/// A relation's objects.
struct Whole {
    objects: Vec<String>,
    sum: RowSum,
    bytes: u64,
}

/// Copies all relations of the catalog that are to be whole, and writes down where they are. Gives their bytes.
pub(super) async fn copy_all(
    settling: &Settling<'_>,
    held: &mut HeldSnapshot,
    catalog: &mut DatabaseCatalog,
    outlet: &mut dyn Outlet,
) -> Result<u64, Fault> {
    let env = &settling.member.env;
    let mut session = Session::connect(env, &settling.dsn, Purpose::Data).await?;
    let mut bytes = 0;
    let steps = &settling.backup.steps;
    let is_whole = |entry: &&RelationEntry| matches!(entry.content, Content::Whole { .. });
    let total = catalog.relations.iter().filter(is_whole).count() as u64;
    steps.begin("copying relations whole", total, 0);
    for entry in &mut catalog.relations {
        let Content::Whole { objects } = &mut entry.content else {
            continue;
        };
        held.keep(env, &settling.dsn).await?;
        settling.see_to_budget(&session).await?;
        let name = entry.layout.display_name();
        steps.started(&name);
        // A transaction each: no relation is locked for longer than it is read.
        import(&session, held.id()?).await?;
        let (back, whole) = copy(settling, session, &entry.layout, outlet).await?;
        session = back;
        session.execute("COMMIT").await?;
        *objects = whole.objects;
        entry.rows = Some(whole.sum.rows.0);
        entry.sum = Some(whole.sum);
        bytes += whole.bytes;
        steps.ended(&name, 0);
    }
    Ok(bytes)
}

async fn copy(
    settling: &Settling<'_>,
    session: Session,
    layout: &Layout,
    outlet: &mut dyn Outlet,
) -> Result<(Session, Whole), Fault> {
    let forms = RowForms::read(&session, layout, &layout.schema, &layout.name).await?;
    let mut part = match open_whole(session, layout).await? {
        Opened::Reading(part) => part,
        Opened::Changed(..) => {
            return Err(Fault::new(
                ErrorCode::HistoryGone,
                format!(
                    "{} was truncated, rewritten, renamed or dropped after the snapshot that it was to be read under",
                    layout.display_name()
                ),
            )
            .hint("the finish is repeated under a newer snapshot"));
        }
    };
    let mut whole = Whole {
        objects: Vec::new(),
        sum: RowSum::default(),
        bytes: 0,
    };
    let mut writer = RowWriter::begin(outlet, layout).await?;
    let mut reader = CopyReader::new(layout.columns.len());
    while let Some(chunk) = part.next().await {
        let chunk = chunk?;
        settling.member.share.pass(chunk.len() as u64).await;
        settling.backup.steps.moved(chunk.len() as u64);
        reader.feed(chunk);
        while let Some(row) = reader.next_row()? {
            forms.add(&mut whole.sum, &row)?;
            writer.push(&row).await?;
            if writer.bytes() >= settling.backup.part_size.0 {
                writer = writer
                    .next(layout, &mut whole.objects, &mut whole.bytes)
                    .await?;
            }
        }
    }
    reader.finish()?;
    let (name, bytes) = writer.end_named().await?;
    whole.objects.extend(name);
    whole.bytes += bytes;
    let session = part.finish().await?;
    Ok((session, whole))
}
