"""What a program in Python does with a cluster, through psycopg."""

import sys

import psycopg

port, collection = sys.argv[1:]
where = f"host=127.0.0.1 port={port} user=ann dbname=bank connect_timeout=20"


def types(row):
    return [type(value).__name__ for value in row]


connection = psycopg.connect(where, autocommit=True)
notices = []
connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
print("version", connection.info.server_version)

cursor = connection.execute("BACKUP INTO %s", (collection,))
job = cursor.fetchone()
print(cursor.statusmessage, [column.name for column in cursor.description], job[1:])

columns = "job_id, created, fraction_completed, execution_errors, now() - created AS age"
statement = f"SELECT {columns} FROM [SHOW JOBS] WHERE status = %s AND job_id >= %s"
print("text", types(connection.execute(statement, ("succeeded", job[0])).fetchone()))
cursor = connection.cursor(binary=True)
cursor.execute(statement, ("succeeded", job[0]))
print("binary", types(cursor.fetchone()))

rows = connection.execute("SHOW BACKUP FROM LATEST IN %s", (collection,)).fetchall()
print("notice", notices[0].split(":")[0])
print("rows", len(rows))
for _ in range(8):
    rows = connection.execute("SHOW JOB %s", (job[0],), prepare=True).fetchall()
print("prepared", len(rows))

try:
    connection.execute("SHOW JBOS")
except psycopg.errors.SyntaxError as error:
    print("error", error.sqlstate, error.diag.statement_position, error.diag.message_hint)
try:
    connection.execute("BACKUP INTO LATEST IN %s", (collection + "-none",))
except psycopg.Error as error:
    print("error", error.sqlstate)

# Without autocommit the driver opens a transaction block by itself.
other = psycopg.connect(where)
try:
    other.execute("BACKUP INTO %s", (collection,))
except psycopg.Error as error:
    print("error", error.sqlstate)
other.rollback()
detached = other.execute("BACKUP INTO %s WITH detached", (collection,)).fetchone()
other.commit()
status = "SELECT status FROM [SHOW JOB WHEN COMPLETE %s]"
print("detached", connection.execute(status, detached).fetchone()[0])

with connection.pipeline() as pipeline:
    workers = connection.execute("SHOW WORKERS")
    one = connection.execute("SELECT 1")
    pipeline.sync()
    print("pipeline", len(workers.fetchall()), one.fetchone())
