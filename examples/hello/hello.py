from mesh import Server, Worker


class Hello(Worker):
    def forward(self, name: object) -> str:
        return f"Hello, {name}!"


if __name__ == "__main__":
    server = Server()
    server.append_worker(Hello)
    server.run()
