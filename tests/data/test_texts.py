"""Texts as people write them and as the files have them."""

from mvae.data.texts import as_read


def test_what_is_shown_is_written_as_people_do():
    assert as_read("&quot; Yes , &quot; she said . I don n&apos;t ; you &apos;re &amp; I &apos;ll [ go ]") == (
        "\"Yes,\" she said. I donn't; you're & I'll [go]"
    )
