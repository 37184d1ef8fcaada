"""A minimal Flask-AppBuilder application with its JSON login switched on.

Run by the environment of the login servers, never by ours:
`python flask_appbuilder_app.py <folder> <port>`. What it needs to know comes as JSON in the
environment variable LOGIN_SERVER: users, and the key that signs tokens.
"""

# mypy: ignore-errors
# Its packages are in the environment of the login servers, where nothing checks types.
import json
import os
import sys
from pathlib import Path

from flask import Flask
from flask_appbuilder import AppBuilder
from flask_appbuilder.models.sqla.base import SQLA
from waitress import serve

folder, port = Path(sys.argv[1]), int(sys.argv[2])
spec = json.loads(os.environ["LOGIN_SERVER"])

app = Flask(__name__)
app.config.update(
    SECRET_KEY="for-a-test-server-only-" + "x" * 40,
    JWT_SECRET_KEY=spec["jwt_secret"],
    SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder / 'app.db'}",
    FAB_PASSWORD_HASH_METHOD="pbkdf2:sha256:1000",  # the default takes a second here
)
db = SQLA(app)

with app.app_context():
    builder = AppBuilder(app, db.session)
    admin = builder.sm.find_role("Admin")
    for user in spec["users"]:
        builder.sm.add_user(
            user["username"],
            "Test",
            "User",
            f"{user['username']}@example.invalid",
            admin,
            user["password"],
        )

if __name__ == "__main__":
    serve(app, host="127.0.0.1", port=port, threads=4, _quiet=True)
