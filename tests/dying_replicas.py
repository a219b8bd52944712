"""Engines that die or refuse, in other processes: so this imports no more than it needs."""

import os
import signal

from tract_core.base.errors import LibraryError, UserError
from tract_core.generate.engine.base import finish
from tract_core.generate.engine.replicas import Replica


def with_died(file):
    """DiesOnce with the file that says so; Ray takes a class like this to its processes by value."""

    class Here(DiesOnce):
        died = file

    return Here


class DiesOnce(Replica):
    """Ends as by `kill -9` at its second batch, the first time that one of these does."""

    batches = 0
    died = None
    """A file that is there once one has."""

    def generate(self, requests, score):
        self.batches += 1
        if self.batches == 2:
            try:
                self.died.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        yield from super().generate(requests, score)


class Written(Replica):
    """Answers one request after the other without a model, and writes down which it was asked."""

    def open(self, settings, model, decoding, seed_model, adapter):
        self.decoding, self.file = decoding, seed_model.folder / "asked"

    def generate(self, requests, score):
        for request in requests:
            with self.file.open("a") as file:
                file.write(f"{request.key}\n")
            self.about_to_answer(request)
            yield [finish(self.decoding, request, [request.prompt_ids[0]], at_length=True)]

    def about_to_answer(self, request):
        pass


class DiesAt7(Written):
    def about_to_answer(self, request):
        if request.key == "7":
            os.kill(os.getpid(), signal.SIGKILL)


class DiesAt7Once(DiesAt7):
    def about_to_answer(self, request):
        if self.file.read_text().split().count("7") == 1:
            super().about_to_answer(request)


class Refuses(Written):
    def about_to_answer(self, request):
        if request.key == "7":
            raise UserError("out of memory with 4 sequences; lower engine.batch_size")


class DiesAtStart(Written):
    def open(self, *given):
        os.kill(os.getpid(), signal.SIGKILL)


class RefusesAtStart(Written):
    def open(self, *given):
        raise LibraryError("vLLM does not start: no memory")
