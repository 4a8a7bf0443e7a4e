from __future__ import annotations

from rkt.linux import users

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
broken line
+nis:x:1:1
neg:x:-1:1::/:/bin/sh
big:x:4294967295:1::/:/bin/sh
under:x:1_0:1::/:/bin/sh
web:x:33:44:Web:/srv:/bin/false
web:x:34:44:Again:/srv:/bin/false
\xff:x:9:9::/:/bin/sh
"""
GROUP = b"root:x:0:\nwww:x:44:web,ann\nextra:x:45:web\nagain:x:44:web\nbad:x:x:web\n"


def test_users_by_name_and_id():
    web = users.find_user(PASSWD, "web")
    assert web is not None
    assert (web.uid, web.gid, web.home, web.shell) == (33, 44, "/srv", "/bin/false")
    assert [user.name for user in users.users(PASSWD)] == ["root", "web", "web", "\udcff"]
    found = users.find_user_by_id(PASSWD, 0)
    assert found is not None
    assert found.name == "root"
    assert users.find_user(PASSWD, "neg") is None
    assert users.find_user(PASSWD, "") is None


def test_groups_and_members():
    group = users.find_group(GROUP, "www")
    assert group is not None
    assert (group.gid, group.members) == (44, ["web", "ann"])
    assert users.groups_of(GROUP, "web") == [44, 45]
    assert users.find_group(GROUP, "bad") is None


def test_ids_are_plain_decimal_numbers():
    assert users.parse_id("4294967294") == 4294967294
    for text in ("4294967295", "-1", "+1", " 1", "1 ", "0x1", "١", "", "00000000001"):
        assert users.parse_id(text) is None
