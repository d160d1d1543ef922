"""The index in LanceDB: tables, reading and writing, verification."""
