-- What Ping writes to find out whether the store can write.
CREATE TABLE probe (id integer PRIMARY KEY, filler bytea NOT NULL);
