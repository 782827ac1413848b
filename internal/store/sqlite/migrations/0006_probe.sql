-- What Ping writes to find out whether the store can write.
CREATE TABLE probe (id INTEGER PRIMARY KEY, filler BLOB NOT NULL);
