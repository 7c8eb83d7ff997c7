"""Push-T: demonstrations of pushing a T-shaped block to a goal (Florence et al. 2021; Chi et al. 2023).

    read_demonstrations        a zarr replay buffer, folder or zip, or an NPZ  ->  Demonstrations
    Demonstrations             states, actions, images of episodes at 10 Hz
    mirrored                   the same episodes in the mirror, which are demonstrations too
    noisy, outliers, without_last, joined    the same steps with other actions, or fewer of them; several sets as one
    observations               what a policy reads of them, one vector a step
    pose_features, keypoint_features, image_features    the same vectors, from states; for data and environment alike
    features, image_parts      their length; an image and the agent's position out of the vector
    Normaliser, normaliser, ACTIONS, AS_SEEN    pixels <-> [-1, 1], and as they are

Lengths are pixels of the 512 x 512 arena, angles are radians, a step is 0.1 s. Nothing here needs the simulator.
"""

from neuralsde.data.pusht.demonstrations import Demonstrations, observations
from neuralsde.data.pusht.features import (
    ACTIONS,
    AS_SEEN,
    GOAL,
    IMAGE,
    KINDS,
    LOCAL_KEYPOINTS,
    Normaliser,
    features,
    image_features,
    image_parts,
    keypoint_features,
    keypoints_of,
    normaliser,
    pose_features,
)
from neuralsde.data.pusht.labels import joined, noisy, outliers, without_last
from neuralsde.data.pusht.mirror import mirrored, mirrored_images, mirrored_points, mirrored_states
from neuralsde.data.pusht.read import read_demonstrations

__all__ = [
    "ACTIONS",
    "AS_SEEN",
    "GOAL",
    "IMAGE",
    "KINDS",
    "LOCAL_KEYPOINTS",
    "Demonstrations",
    "Normaliser",
    "features",
    "image_features",
    "image_parts",
    "joined",
    "keypoint_features",
    "keypoints_of",
    "mirrored",
    "mirrored_images",
    "mirrored_points",
    "mirrored_states",
    "noisy",
    "normaliser",
    "observations",
    "outliers",
    "pose_features",
    "read_demonstrations",
    "without_last",
]
