"""Gives back what it got, or what that says."""

from time import sleep

from mesh import ClientError, Reply, Worker


class Echo(Worker):
    """Gives back what it got, and takes as long as that says."""

    def forward(self, item):
        if isinstance(item, dict):
            return Reply(item["say"], headers={"Server": "theirs"})
        if item == "raise":
            raise ClientError("as asked")
        sleep(item)
        with open("computed", "a") as computed:
            computed.write(f"{item}\n")
        return item
