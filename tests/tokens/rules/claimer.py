"""A process that claims once for every line on its standard input, and says whom."""

import os
import sys


def main():
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")
    django.setup()

    from apps.tokens.services import admission, hints
    from apps.tokens.services.owner import Owner

    print("ready", flush=True)
    for _ in sys.stdin:
        owner = Owner.take(cluster="default")
        print("owner", flush=True)
        sys.stdin.readline()
        claimed = admission.claim(owner_id=owner.id, queues=hints.queues_of("default"))
        print(claimed.credentials.username if claimed else "nothing", flush=True)


if __name__ == "__main__":
    main()
