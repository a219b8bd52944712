"""HTML as a small tree, with the standard library's parser."""

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr", "col"}


class Node:
    def __init__(self, tag, attrs=()):
        self.tag, self.attrs, self.children = tag, dict(attrs), []

    def __iter__(self):
        """This node and all below it."""
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child

    @property
    def text(self):
        return "".join(child.text if isinstance(child, Node) else child for child in self.children)

    @property
    def classes(self):
        return (self.attrs.get("class") or "").split()

    def all(self, *tags):
        return [node for node in self if node.tag in tags]

    def by_id(self, name):
        found = [node for node in self if node.attrs.get("id") == name]
        assert len(found) == 1, f"{len(found)} elements with id {name}"
        return found[0]


class _Parser(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open = [Node("document")]

    def handle_starttag(self, tag, attrs):
        node = Node(tag, attrs)
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Node(tag, attrs))

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].children.append(data)


def parse(html):
    """The document; fails where elements are not closed in order."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    assert [node.tag for node in parser.open] == ["document"]
    return parser.open[0]
