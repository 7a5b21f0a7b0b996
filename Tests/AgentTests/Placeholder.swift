// Tests of this module run in real processes: see PreloadTests.
