"""Names of what is known about every image: body parts and joints."""

PARTS = (
    "background",
    "head",  # face, ears and neck
    "hair",  # or headgear
    "torso",
    "upper_arms",
    "lower_arms",
    "hands",
    "hips",  # pelvis, and skirts and coats below the waist
    "thighs",
    "shins",
    "shoes",
    "bag",
    "occluder",  # anything or anybody in front
    "bystander",  # people behind
)
BACKGROUND, HEAD, HAIR, TORSO, UPPER_ARMS, LOWER_ARMS, HANDS = range(7)
HIPS, THIGHS, SHINS, SHOES, BAG, OCCLUDER, BYSTANDER = range(7, 14)

JOINTS = (
    "nose",
    "neck",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_eye",
    "left_eye",
    "right_ear",
    "left_ear",
)
OUTSIDE, HIDDEN, VISIBLE = range(3)  # visibility of a joint
