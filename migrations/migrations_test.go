package migrations_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/migrations"
)

func TestMain(m *testing.M) {
	// golang-migrate reads files ahead, and leaves them when one has failed.
	pgtest.Main(m, goleak.IgnoreTopFunction("io.(*pipe).write"),
		goleak.IgnoreTopFunction("github.com/golang-migrate/migrate/v4.(*Migrate).readUp"))
}

var databases atomic.Int64

// newDatabase returns the address of an empty database beside one of the
// suite's.
func newDatabase(t *testing.T) string {
	t.Helper()
	dsn := pgtest.Database(t)
	conn := connect(t, dsn)
	name := fmt.Sprintf("empty_%d", databases.Add(1))
	exec(t, conn, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		_, err := conn.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
		require.NoError(t, err)
	})
	return strings.Replace(dsn, "/"+conn.Config().Database+"?", "/"+name+"?", 1)
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

// schema is everything that the schema tailroom holds, apart from what keeps
// account of the migrations.
func schema(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		SELECT 'relation ' || relname || ' ' || relkind::text || ' ' || relowner::regrole || coalesce(' ' || relacl::text, '') FROM pg_class
		WHERE relnamespace = 'tailroom'::regnamespace AND relname NOT LIKE 'schema_migrations%'
		UNION ALL SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || coalesce(' ' || column_default, '')
		FROM information_schema.columns WHERE table_schema = 'tailroom' AND table_name <> 'schema_migrations'
		UNION ALL SELECT 'function ' || oid::regprocedure || ' ' || md5(prosrc) || ' ' || proowner::regrole || coalesce(' ' || proacl::text, '') FROM pg_proc WHERE pronamespace = 'tailroom'::regnamespace
		UNION ALL SELECT 'trigger ' || tgrelid::regclass || ' ' || tgname FROM pg_trigger
		WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'tailroom'::regnamespace) AND NOT tgisinternal
		UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'tailroom'::regnamespace AND contype = 'f'
		UNION ALL SELECT 'type ' || typname FROM pg_type WHERE typnamespace = 'tailroom'::regnamespace AND typname NOT LIKE '%schema_migrations'
		ORDER BY 1`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

func requireStatus(t *testing.T, dsn string, version uint, dirty bool) {
	t.Helper()
	gotVersion, gotDirty, err := migrations.Status(t.Context(), dsn)
	require.NoError(t, err)
	require.Equal(t, version, gotVersion)
	require.Equal(t, dirty, gotDirty)
}

func newest(t *testing.T) uint {
	t.Helper()
	version, err := migrations.Newest()
	require.NoError(t, err)
	return version
}

// Every file has its counterpart, and the numbers leave none out.
func TestFiles(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^(\d{4})_([a-z_]+)\.(up|down)\.sql$`)
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	seen := map[string]string{}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".sql") {
			continue
		}
		parts := form.FindStringSubmatch(file.Name())
		require.NotNil(t, parts, file.Name())
		seen[parts[1]+parts[3]] = parts[2]
	}
	require.NotZero(t, newest(t))
	require.Len(t, seen, int(newest(t))*2)
	for n := uint(1); n <= newest(t); n++ {
		up, down := seen[fmt.Sprintf("%04dup", n)], seen[fmt.Sprintf("%04ddown", n)]
		require.NotEmpty(t, up)
		require.Equal(t, up, down)
	}
}

// Each step up, back, and up again comes to the same schema, and the last step
// back leaves nothing.
func TestUpDownUp(t *testing.T) {
	t.Parallel()
	dsn := newDatabase(t)
	requireStatus(t, dsn, 0, false)
	conn := connect(t, dsn)
	var schemas int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname = 'tailroom'").Scan(&schemas))
	require.Zero(t, schemas, "to ask for the status changes nothing")
	require.ErrorContains(t, migrations.Check(t.Context(), dsn), "tailroom migrate up")

	require.NoError(t, migrations.Up(t.Context(), dsn))
	requireStatus(t, dsn, newest(t), false)
	require.NoError(t, migrations.Check(t.Context(), dsn))
	steps := [][]string{schema(t, conn)}
	for version := newest(t); version > 0; version-- {
		require.NoError(t, migrations.Down(t.Context(), dsn))
		requireStatus(t, dsn, version-1, false)
		steps = append(steps, schema(t, conn))
		require.NotEqual(t, steps[len(steps)-2], steps[len(steps)-1])
	}
	require.Empty(t, steps[len(steps)-1])
	require.NoError(t, migrations.Down(t.Context(), dsn), "there is nothing to take back")

	require.NoError(t, migrations.Up(t.Context(), dsn))
	require.Equal(t, steps[0], schema(t, conn))
	require.NoError(t, migrations.Down(t.Context(), dsn))
	require.Equal(t, steps[1], schema(t, conn))
	require.NoError(t, migrations.Up(t.Context(), dsn))
	require.NoError(t, migrations.Up(t.Context(), dsn), "there is nothing to do")
	require.Equal(t, steps[0], schema(t, conn))
	exec(t, conn, "SELECT tailroom.partitions_ahead(1)")
}

// Instances that start at once on an empty database.
func TestUp_EightAtOnce(t *testing.T) {
	t.Parallel()
	dsn := newDatabase(t)
	begin := make(chan struct{})
	g, ctx := errgroup.WithContext(t.Context())
	for range 8 {
		g.Go(func() error {
			<-begin
			return migrations.Up(ctx, dsn)
		})
	}
	close(begin)
	require.NoError(t, g.Wait())
	requireStatus(t, dsn, newest(t), false)
}

// A migration that fails is rolled back and leaves the mark; who starts then is
// told what to do, and after the cause is mended that works.
func TestDirty(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint{"the first": 1, "the newest": newest(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := newDatabase(t)
			conn := connect(t, dsn)
			require.NoError(t, migrations.Up(t.Context(), dsn))
			whole := schema(t, conn)
			for v := newest(t); v >= version; v-- {
				require.NoError(t, migrations.Down(t.Context(), dsn))
			}
			before := schema(t, conn)
			// The database ends the migration before it does anything of note.
			exec(t, conn, `CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS
				$$ BEGIN RAISE 'no % today', 'changes'; END $$`)
			exec(t, conn, `CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE FUNCTION', 'ALTER TABLE')
				EXECUTE FUNCTION public.refuse()`)

			err := migrations.Up(t.Context(), dsn)
			require.ErrorContains(t, err, "no changes today")
			require.ErrorContains(t, err, "tailroom migrate retry")
			require.Less(t, len(err.Error()), 300, "it is not the whole file")
			requireStatus(t, dsn, version, true)
			require.Equal(t, before, schema(t, conn), "the file was rolled back")
			for range 2 {
				err := migrations.Up(t.Context(), dsn)
				require.ErrorIs(t, err, migrations.ErrDirty)
				require.ErrorContains(t, err, "tailroom migrate retry")
				require.ErrorContains(t, err, fmt.Sprintf("version %d", version))
			}
			require.ErrorIs(t, migrations.Down(t.Context(), dsn), migrations.ErrDirty)
			require.ErrorContains(t, migrations.Retry(t.Context(), dsn), "no changes today", "the cause is still there")
			requireStatus(t, dsn, version, true)

			exec(t, conn, "DROP EVENT TRIGGER refuse")
			require.NoError(t, migrations.Retry(t.Context(), dsn))
			requireStatus(t, dsn, newest(t), false)
			require.Equal(t, whole, schema(t, conn))
		})
	}
}

func TestRetry_WhenNothingFailed(t *testing.T) {
	t.Parallel()
	dsn := newDatabase(t)
	require.NoError(t, migrations.Retry(t.Context(), dsn))
	require.NoError(t, migrations.Retry(t.Context(), dsn))
	requireStatus(t, dsn, newest(t), false)
}

// A program that is older than the schema leaves it alone and says why.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	dsn := newDatabase(t)
	require.NoError(t, migrations.Up(t.Context(), dsn))
	conn := connect(t, dsn)
	before := schema(t, conn)
	exec(t, conn, "UPDATE tailroom.schema_migrations SET version = version + 1")
	for _, do := range []func(context.Context, string) error{migrations.Up, migrations.Down, migrations.Retry} {
		err := do(t.Context(), dsn)
		require.ErrorIs(t, err, migrations.ErrNewer)
		require.ErrorContains(t, err, fmt.Sprintf("at version %d, this one knows %d", newest(t)+1, newest(t)))
	}
	requireStatus(t, dsn, newest(t)+1, false)
	require.Equal(t, before, schema(t, conn))
}

func TestUp_WithoutADatabase(t *testing.T) {
	t.Parallel()
	dsn := strings.Replace(newDatabase(t), "/empty_", "/missing_", 1)
	require.ErrorContains(t, migrations.Up(t.Context(), dsn), "does not exist")
}
