"""Singer tap for Pancake (pages.fm), the inbox of shops on Facebook, Zalo, Instagram and others."""
