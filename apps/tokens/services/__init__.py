"""What the token app does. A request's way, in reading order:

`acquisition` answers a caller from storage or creates the request; `requests` joins and ends
them; `hints` tells the queue; `worker` drains it; `admission` claims work with `selection`;
`execution` runs the login; `refresh` trades refresh tokens; `completion` writes the result;
`waiting` lets callers wait; `recovery` repairs what died.
"""
