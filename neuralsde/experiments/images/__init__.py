"""Images drawn by a diffusion model, judged in the features of a classifier that is trained beside it.

classifier.py    the classifier
judge.py         Fréchet distance with its floor, sureness, class shares, copies
study.py         what both experiments do
page.py          tables and pictures
digits.py        8 x 8 digits, which come with the package; with a curve of evaluations
mnist.py         28 x 28 digits, from NEURALSDE_DATA
"""
