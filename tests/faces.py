"""Small files in the formats of CelebA."""

from PIL import Image

from mvae.data.celeba import ATTRIBUTES

TITLES = ["Attractive", *ATTRIBUTES[::-1], "Young"]  # another order than ours, and others among them
PARTS = [0, 2, 1, 0, 0, 2, 1, 0]


def write_faces(folder, parts=PARTS):
    """A `celeba` folder whose image r is of one colour, 20 r, and has attribute a where bit a of 7 r is set.

    `parts` says of each image whether it is for training, validation or test.
    """
    place = folder / "celeba"
    (place / "img_align_celeba").mkdir(parents=True)
    lines = []
    for row in range(len(parts)):
        image = Image.new("RGB", (89, 109), (20 * row % 256, 10, 255 - 20 * row % 256))
        image.save(place / "img_align_celeba" / f"{row:06}.jpg", quality=95)
        has = {name: 7 * row >> number & 1 for number, name in enumerate(ATTRIBUTES)}
        lines.append(f"{row:06}.jpg " + " ".join(" 1" if has.get(title) else "-1" for title in TITLES))
    head = [str(len(parts)), " ".join(TITLES)]
    (place / "list_attr_celeba.txt").write_bytes("\r\n".join([*head, *lines, ""]).encode())
    partition = [f"{row:06}.jpg {parts[row]}" for row in range(len(parts))]
    (place / "list_eval_partition.txt").write_bytes("\r\n".join([*partition, ""]).encode())
    return place
